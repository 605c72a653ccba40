pub mod export;
pub mod history;
pub mod rebuild;
pub mod stats;
pub mod verify;
pub mod what_if;
