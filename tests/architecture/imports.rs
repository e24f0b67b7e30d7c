//! Which file of `src` imports which, read from the syntax. Names are followed through re-exports to the file that
//! defines them. Tests inside the files do not count, nor do files that only re-export.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use syn::{Attribute, Item, UseTree, visit::Visit};

/// A path in the code as its segments, without `crate`.
type Segments = Vec<String>;

#[derive(Default)]
struct Module {
    /// Its path below `src`.
    file: String,
    /// The paths that it names.
    uses: BTreeSet<Segments>,
    /// The paths that it re-exports, by name; `*` for all of another module.
    reexports: Vec<(String, Segments)>,
}

/// All imports between files, each with the names that are imported.
pub fn between_files(src: &Path) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut modules = BTreeMap::new();
    read(src, src, &mut modules);
    let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for module in modules.values() {
        for path in &module.uses {
            if let Some(other) = defining(&modules, path, 0).filter(|other| *other != module.file) {
                let taken = found.entry((module.file.clone(), other)).or_default();
                taken.insert(path.last().cloned().unwrap_or_default());
            }
        }
    }
    found
}

/// Files that import each other in a circle, if there is one.
pub fn circle(imports: &BTreeMap<(String, String), BTreeSet<String>>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    let all: BTreeSet<&String> = imports.keys().map(|(from, _)| from).collect();
    all.into_iter().find_map(|file| walk(imports, file, &mut Vec::new(), &mut done))
}

fn walk(
    imports: &BTreeMap<(String, String), BTreeSet<String>>,
    file: &String,
    way: &mut Vec<String>,
    done: &mut BTreeSet<String>,
) -> Option<Vec<String>> {
    if let Some(at) = way.iter().position(|before| before == file) {
        return Some(way[at..].to_vec());
    }
    if done.contains(file) {
        return None;
    }
    way.push(file.clone());
    let next = imports.keys().filter(|(from, _)| from == file).map(|(_, to)| to);
    let found = next.into_iter().find_map(|to| walk(imports, to, way, done));
    way.pop();
    done.insert(file.clone());
    found
}

/// The file that defines a path's name; `None` if it is in another crate.
fn defining(modules: &BTreeMap<Segments, Module>, path: &[String], depth: usize) -> Option<String> {
    assert!(depth < 20, "re-exports in a circle: {path:?}");
    let module_of = |length: usize| modules.get(&path[..length]);
    let length = (1..=path.len()).rev().find(|length| module_of(*length).is_some())?;
    let module = module_of(length)?;
    let Some(name) = path.get(length).filter(|name| *name != "*") else { return Some(module.file.clone()) };
    for (handed, of) in &module.reexports {
        let mut real = of.clone();
        if handed == "*" {
            real.push(name.clone());
            match defining(modules, &real, depth + 1) {
                Some(file) if defines(modules, &file, name) => return Some(file),
                _ => continue,
            }
        }
        // A macro is exported by the file that defines it.
        if handed == name && real != path[..=length] {
            return defining(modules, &real, depth + 1);
        }
    }
    Some(module.file.clone())
}

fn defines(modules: &BTreeMap<Segments, Module>, file: &str, name: &str) -> bool {
    modules.values().any(|module| module.file == file && module.reexports.iter().all(|(handed, _)| handed != name))
}

fn read(src: &Path, folder: &Path, modules: &mut BTreeMap<Segments, Module>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(src, &path, modules);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.strip_prefix(src).unwrap().to_str().unwrap().to_owned();
            let mut here: Segments = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            if here.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
                here.pop();
            }
            let syntax = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
            let mut reader = Reader { here: here.clone(), module: Module { file, ..Module::default() } };
            reader.visit_file(&syntax);
            modules.insert(here, reader.module);
        }
    }
}

struct Reader {
    here: Segments,
    module: Module,
}

impl Reader {
    /// The path from the crate's root; `None` if it is in another crate.
    fn absolute(&self, path: &[String]) -> Option<Segments> {
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([&self.here[..], &path[1..]].concat()),
            "super" => {
                let up = path.iter().take_while(|segment| *segment == "super").count();
                let base = self.here.get(..self.here.len().checked_sub(up)?)?;
                Some([base, &path[up..]].concat())
            }
            _ => None,
        }
    }

    fn tree(&mut self, tree: &UseTree, before: &mut Segments, reexports: bool) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.tree(&path.tree, before, reexports);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(item, before, reexports)),
            UseTree::Name(name) => self.leaf(before, &name.ident.to_string(), None, reexports),
            UseTree::Rename(name) => {
                self.leaf(before, &name.ident.to_string(), Some(name.rename.to_string()), reexports);
            }
            UseTree::Glob(_) => self.leaf(before, "*", None, reexports),
        }
    }

    fn leaf(&mut self, before: &[String], name: &str, renamed: Option<String>, reexports: bool) {
        let mut path = before.to_vec();
        if name != "self" {
            path.push(name.to_owned());
        }
        if !reexports {
            self.module.uses.extend(self.absolute(&path));
            return;
        }
        // A module's children may name its re-exports without `self`.
        let real = self.absolute(&path).unwrap_or_else(|| [&self.here[..], &path[..]].concat());
        let real = if name == "*" { real[..real.len() - 1].to_vec() } else { real };
        self.module.reexports.push((renamed.unwrap_or_else(|| name.to_owned()), real));
    }
}

fn is_of_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_of_tests(&module.attrs) => {}
            Item::Use(one) if is_of_tests(&one.attrs) => {}
            Item::Use(one) => {
                let reexports = !matches!(one.vis, syn::Visibility::Inherited);
                self.tree(&one.tree, &mut Vec::new(), reexports);
            }
            other => syn::visit::visit_item(self, other),
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 {
            self.module.uses.extend(self.absolute(&segments));
        }
        syn::visit::visit_path(self, path);
    }
}
