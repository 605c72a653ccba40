//! `sqlx::migrate!` reads the folder at compile time; a new file there must compile this crate again.
fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
