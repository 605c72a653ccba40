//! Comments, documents and what the API says of itself are read by people who learnt English at work.

use std::{fs, path::PathBuf, sync::LazyLock};

use regex::Regex;

use crate::architecture::{root, sources};

/// Words without an actor, and literary ones; instead of them: the client, the operator, again, permanently.
static BANNED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\b(nobody|somebody|whoever|anybody|anew|for ever|again and again|counts? no longer)\b").unwrap());
static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(?:^|[\s;{},(])(//[/!]?[^"\n]*)$"#).unwrap());
const CRATES: &[&str] = &["domain", "eventstore", "projections", "services", "workers", "api", "replay-tool", "tests"];

/// The lines of a text with a banned word, each with where it stands.
fn banned<'a>(place: &str, lines: impl Iterator<Item = (usize, &'a str)>) -> Vec<String> {
    lines.filter_map(|(number, line)| BANNED.find(line).map(|word| format!("{place}:{number}: {}", word.as_str()))).collect()
}

#[test]
fn comments_use_plain_words() {
    let mut found = Vec::new();
    for krate in CRATES {
        let mut files = Vec::new();
        sources(&root().join(krate), &mut files);
        for file in files.iter().filter(|file| !file.ends_with("platform/language.rs")) {
            let text = fs::read_to_string(file).unwrap();
            let comments = (1..).zip(text.lines()).filter_map(|(number, line)| Some((number, COMMENT.captures(line)?.get(1)?.as_str())));
            found.extend(banned(&file.display().to_string(), comments));
        }
    }
    assert!(found.is_empty(), "{} comments:\n{}", found.len(), found.join("\n"));
}

/// README.md, ARCHITECTURE.md, the pages of `docs` and the decisions.
fn documents() -> Vec<PathBuf> {
    let mut files: Vec<_> = ["README.md", "ARCHITECTURE.md"].iter().map(|name| root().join(name)).collect();
    for folder in ["docs", "docs/decisions"] {
        files.extend(fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    assert!(files.len() > 3);
    files
}

#[test]
fn documents_use_plain_words() {
    let found: Vec<_> = documents()
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            banned(&file.display().to_string(), (1..).zip(text.lines()))
        })
        .collect();
    assert!(found.is_empty(), "{} lines:\n{}", found.len(), found.join("\n"));
}

/// A path or link in a document that begins with a crate or another top folder leads to a file or folder.
#[test]
fn documents_name_files_that_exist() {
    let tops = "migrations|docs|domain|eventstore|projections|services|workers|api|replay-tool|tests";
    let path = Regex::new(&format!(r"(?:`|\]\()((?:{tops})/[\w./-]+)[`)]")).unwrap();
    let mut found = Vec::new();
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        let named = path.captures_iter(&text).map(|captures| captures[1].to_owned());
        found.extend(named.filter(|name| !exists(name)).map(|name| format!("{}: {name}", file.display())));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// A migration may be named by its number alone.
fn exists(path: &str) -> bool {
    let is_numbered = |number: &str| {
        let mut names = fs::read_dir(root().join("migrations")).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with(&format!("{number}_")))
    };
    root().join(path).exists() || path.strip_prefix("migrations/").is_some_and(is_numbered)
}

#[test]
fn the_api_describes_itself_in_plain_words() {
    let document = serde_json::to_string_pretty(&newvoice_api::router::openapi()).unwrap();
    let described =
        (1..).zip(document.lines()).filter(|(_, line)| line.trim_start().starts_with("\"description\"") || line.contains("\"summary\""));
    let found = banned("openapi.json", described);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
