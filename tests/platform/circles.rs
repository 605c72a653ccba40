//! Files that import each other in a circle cannot be read, tested or moved separately. This test limits the size of such circles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::LazyLock,
};

use regex::Regex;

use crate::architecture::{root, sources};

/// For example a parent and two of its children.
const CIRCLE_MAX: usize = 3;
const CRATES: &[&str] = &["domain", "eventstore", "projections", "services", "workers", "api", "replay-tool"];

static USE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(pub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);").unwrap());
static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b[a-z_]\w*(?:::\w+)+").unwrap());
static COMMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"//[^\n]*").unwrap());

/// A module, as the path of names from the crate's root.
type Module = Vec<String>;

/// The modules of a crate, each with its code, without comments and tests.
struct Modules(BTreeMap<Module, String>);

impl Modules {
    fn of(krate: &str) -> Self {
        let dir = root().join(krate).join("src");
        let mut files = Vec::new();
        sources(&dir, &mut files);
        let modules = files.iter().filter_map(|file| {
            let module = module_of(file.strip_prefix(&dir).unwrap())?;
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap().split("#[cfg(test)]\npub(super) mod ").next().unwrap();
            Some((module, COMMENT.replace_all(code, "").into_owned()))
        });
        Self(modules.collect())
    }

    /// The re-exports of each module: the name, and the path that it stands for.
    fn exports(&self) -> BTreeMap<(Module, String), Vec<String>> {
        let mut exports = BTreeMap::new();
        for (module, code) in &self.0 {
            for used in USE.captures_iter(code).filter(|used| used.get(1).is_some()) {
                for path in expand(&used[2]) {
                    exports.insert((module.clone(), path.last().unwrap().clone()), path);
                }
            }
        }
        exports
    }

    /// The module that a path in `from` refers to.
    fn locate(&self, from: &Module, path: &[String], exports: &BTreeMap<(Module, String), Vec<String>>) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.descend(Module::new(), rest, exports),
            "self" => self.descend(from.clone(), rest, exports),
            "super" => {
                let up = path.iter().take_while(|segment| *segment == "super").count();
                self.descend(from.get(..from.len().checked_sub(up)?)?.to_vec(), &path[up..], exports)
            }
            _ => {
                let child = [&from[..], std::slice::from_ref(first)].concat();
                self.0.contains_key(&child).then(|| self.descend(child, rest, exports))?
            }
        }
    }

    fn descend(&self, mut at: Module, path: &[String], exports: &BTreeMap<(Module, String), Vec<String>>) -> Option<Module> {
        let mut path = path;
        while let Some((next, rest)) = path.split_first() {
            let child = [&at[..], std::slice::from_ref(next)].concat();
            if !self.0.contains_key(&child) {
                break;
            }
            (at, path) = (child, rest);
        }
        if let Some(name) = path.first()
            && let Some(exported) = exports.get(&(at.clone(), name.clone()))
            && let Some(module) = self.locate(&at, exported, exports)
        {
            return Some(module);
        }
        self.0.contains_key(&at).then_some(at)
    }

    /// The modules that each module imports from.
    fn imports(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let exports = self.exports();
        let of = |module: &Module, code: &str| {
            let used = USE.captures_iter(code).filter(|used| used.get(1).is_none()).flat_map(|used| expand(&used[2])).collect::<Vec<_>>();
            let rest = USE.replace_all(code, "");
            let named = PATH.find_iter(&rest).map(|path| path.as_str().split("::").map(str::to_owned).collect::<Vec<_>>());
            let paths = used.into_iter().chain(named.collect::<Vec<_>>());
            paths.filter_map(|path| self.locate(module, &path, &exports)).filter(|found| found != module).collect()
        };
        self.0.iter().map(|(module, code)| (module.clone(), of(module, code))).collect()
    }
}

/// `main.rs` is a separate crate; files of tests are skipped.
fn module_of(file: &Path) -> Option<Module> {
    let mut names: Module = file.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names == ["main"] || names.iter().any(|name| name == "tests") {
        return None;
    }
    names.pop_if(|name| name == "mod" || name == "lib");
    Some(names)
}

/// The paths of a tree of imports: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((start, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap();
        return vec![path.split("::").map(|segment| segment.trim().to_owned()).collect()];
    };
    let start: Vec<String> = start.split("::").map(|segment| segment.trim().to_owned()).filter(|segment| !segment.is_empty()).collect();
    let inner = inner.rsplit_once('}').unwrap().0;
    let (mut parts, mut depth, mut part) = (Vec::new(), 0, String::new());
    for c in inner.chars() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c == ',' && depth == 0 {
            parts.push(std::mem::take(&mut part));
        } else {
            part.push(c);
        }
    }
    parts.push(part);
    let paths = parts.iter().filter(|part| !part.trim().is_empty()).flat_map(|part| expand(part));
    paths.map(|path| [start.clone(), path].concat()).collect()
}

/// All modules that a module imports directly or indirectly.
fn reachable(from: &Module, imports: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from.clone()]);
    while let Some(module) = open.pop() {
        for next in &imports[&module] {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

#[test]
fn few_files_import_each_other_in_a_circle() {
    for krate in CRATES {
        let imports = Modules::of(krate).imports();
        let reach: BTreeMap<_, _> = imports.keys().map(|module| (module, reachable(module, &imports))).collect();
        for (module, reached) in &reach {
            let circle: Vec<_> = reached.iter().filter(|other| reach[other].contains(*module)).map(|module| module.join("::")).collect();
            assert!(circle.len() <= CIRCLE_MAX, "{krate}: these {} files import each other in a circle: {circle:?}", circle.len());
        }
    }
}

#[test]
fn trees_of_imports_are_read_as_paths() {
    let paths = expand("crate::{\n    a::{self, B},\n    c::D as E,\n}");
    let joined: Vec<_> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(joined, ["crate::a::self", "crate::a::B", "crate::c::D"]);
}
