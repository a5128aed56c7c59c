//! Files under 500 lines, functions under 70, and a `//!` line on every module.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::Visit;

use super::Source;

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;

pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        let path = source.path.display();
        let lines = source.text.lines().count();
        let is_code = source.path.extension().is_some_and(|extension| extension != "toml");
        if is_code && lines > MAX_FILE_LINES {
            problems.push(format!("{path}:{lines}: over {MAX_FILE_LINES} lines; split it by responsibility"));
        }
        if source.path.extension().is_some_and(|extension| extension == "rs") {
            problems.extend(check_rust(source));
        }
    }
    problems
}

fn check_rust(source: &Source) -> Vec<String> {
    let path = source.path.display().to_string();
    let file = match syn::parse_file(&source.text) {
        Ok(file) => file,
        Err(error) => return vec![format!("{path}: does not parse: {error}")],
    };
    let mut functions = Functions { path: path.clone(), problems: Vec::new() };
    functions.visit_file(&file);
    // A `tests.rs` sibling is described by the module it tests; trybuild cases are shown with their error.
    let needs_docs = !path.contains("/tests/") && !path.ends_with("/tests.rs");
    if needs_docs && !source.text.trim_start().starts_with("//!") {
        functions.problems.push(format!("{path}:1: begin with `//!`: purpose, what it must not do, where to start"));
    }
    functions.problems
}

struct Functions {
    path: String,
    problems: Vec<String>,
}

impl Functions {
    fn measure(&mut self, name: &syn::Ident, span: Span) {
        let (start, end) = (span.start().line, span.end().line);
        let lines = end - start + 1;
        if lines > MAX_FUNCTION_LINES {
            let path = &self.path;
            self.problems.push(format!(
                "{path}:{start}: function `{name}` has {lines} lines, over {MAX_FUNCTION_LINES}; name its steps"
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.measure(&item.sig.ident, item.block.span());
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.measure(&item.sig.ident, item.block.span());
        syn::visit::visit_impl_item_fn(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::{Source, check};

    fn problems(text: String) -> Vec<String> {
        check(&[Source { path: "crates/x/src/y.rs".into(), text }])
    }

    #[test]
    fn long_functions_and_files_are_found() {
        let body = "    let _ = 1;\n".repeat(71);
        let found = problems(format!("//! Docs.\nfn long() {{\n{body}}}\n"));
        assert!(found.len() == 1 && found[0].contains("`long`"), "{found:?}");
        let found = problems(format!("//! Docs.\n{}", "// line\n".repeat(500)));
        assert!(found.len() == 1 && found[0].contains("over 500 lines"), "{found:?}");
    }

    #[test]
    fn a_module_without_docs_is_found() {
        assert!(problems("fn short() {}\n".into())[0].contains("//!"));
    }
}
