//! Comments, documents and what the API says of itself are read by people who learnt English at work.

use std::{fs, sync::LazyLock};

use regex::Regex;

use crate::architecture::{root, sources};

/// Words without an actor, and literary ones; instead of them: the client, the operator, again, permanently.
static BANNED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\b(nobody|somebody|whoever|anybody|anew|for ever|again and again|counts? no longer)\b").unwrap());
static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(?:^|[\s;{},(])(//[/!]?[^"\n]*)$"#).unwrap());
const CRATES: &[&str] = &["domain", "eventstore", "projections", "services", "dialer", "api", "replay-tool", "tests"];

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

#[test]
fn documents_use_plain_words() {
    let mut files: Vec<_> = ["README.md", "ARCHITECTURE.md"].iter().map(|name| root().join(name)).collect();
    files.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let files: Vec<_> = files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")).collect();
    assert!(files.len() > 3);
    let found: Vec<_> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            banned(&file.display().to_string(), (1..).zip(text.lines()))
        })
        .collect();
    assert!(found.is_empty(), "{} lines:\n{}", found.len(), found.join("\n"));
}

#[test]
fn the_api_describes_itself_in_plain_words() {
    let document = serde_json::to_string_pretty(&newvoice_api::router::openapi()).unwrap();
    let described =
        (1..).zip(document.lines()).filter(|(_, line)| line.trim_start().starts_with("\"description\"") || line.contains("\"summary\""));
    let found = banned("openapi.json", described);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
