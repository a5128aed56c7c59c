//! A flame graph, drawn from samples in Firefox's processed profile format. One SVG file, no script, no other files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use obsidian_types::limits::MAX_PROFILE_STACKS;
use serde_json::Value;

/// Width of the drawing and height of one row, pixels.
const WIDTH: f64 = 1_200.0;
const ROW: usize = 18;
/// Room above the rows, pixels.
const HEAD: usize = 36;
/// Width of one letter, pixels.
const LETTER: f64 = 6.6;
/// Narrower boxes are not drawn, pixels.
const NARROWEST: f64 = 0.3;
/// Frames of one stack that are drawn; what is called deeper counts for the last.
const MAX_DEPTH: usize = 256;

/// Samples by stack.
pub(super) struct Stacks {
    root: Frame,
}

/// A function, in the company of those that called it.
#[derive(Default)]
struct Frame {
    samples: u64,
    callees: BTreeMap<String, Frame>,
}

impl Stacks {
    /// Reads a profile.
    pub(super) fn read(profile: &[u8]) -> Result<Self> {
        let profile: Value = serde_json::from_slice(profile)?;
        let tables = Tables { thread: &profile["threads"][0], shared: &profile["shared"] };
        let stacks = tables.thread["samples"]["stack"].as_array().context("the profile has no samples")?;
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for stack in stacks.iter().filter_map(Value::as_u64) {
            *counts.entry(stack).or_default() += 1;
        }
        let mut root = Frame::default();
        for (stack, samples) in counts.into_iter().take(MAX_PROFILE_STACKS) {
            let names = tables.names(stack);
            root.samples += samples;
            let mut frame = &mut root;
            for name in names.into_iter().rev().take(MAX_DEPTH) {
                frame = frame.callees.entry(name).or_default();
                frame.samples += samples;
            }
        }
        Ok(Self { root })
    }

    /// How many samples there are.
    pub(super) fn samples(&self) -> u64 {
        self.root.samples
    }

    /// The drawing: callers above, callees below, as wide as they have samples.
    pub(super) fn draw(&self, title: &str) -> String {
        let height = HEAD + ROW * self.root.depth();
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"monospace\" \
             font-size=\"11\">\n<style>rect:hover {{ stroke: #000 }}</style>\n<text x=\"8\" y=\"22\" font-size=\"14\">{}: \
             {} samples</text>\n",
            escaped(title),
            self.root.samples
        );
        self.root.draw(&mut svg, self.root.samples, 0.0, HEAD);
        svg.push_str("</svg>\n");
        svg
    }
}

impl Frame {
    fn depth(&self) -> usize {
        self.callees.values().map(|callee| 1 + callee.depth()).max().unwrap_or(0)
    }

    /// Draws what this frame called, from `x` on.
    fn draw(&self, svg: &mut String, total: u64, mut x: f64, y: usize) {
        for (name, callee) in &self.callees {
            let width = callee.samples as f64 / total as f64 * WIDTH;
            if width >= NARROWEST {
                let share = callee.samples as f64 / total as f64 * 100.0;
                let letters = ((width - 6.0) / LETTER).max(0.0) as usize;
                let shown: String = if letters < 3 { String::new() } else { name.chars().take(letters).collect() };
                // Writing into a string does not fail.
                let _ = writeln!(
                    svg,
                    "<g><title>{} ({} samples, {share:.1} %)</title><rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" \
                     height=\"{}\" fill=\"{}\" rx=\"1\"/><text x=\"{:.2}\" y=\"{}\">{}</text></g>",
                    escaped(name),
                    callee.samples,
                    ROW - 1,
                    colour(name),
                    x + 3.0,
                    y + 12,
                    escaped(&shown)
                );
                callee.draw(svg, total, x, y + ROW);
            }
            x += width;
        }
    }
}

/// The profile's tables: of the thread in older versions of the format, shared in newer ones.
struct Tables<'profile> {
    thread: &'profile Value,
    shared: &'profile Value,
}

impl<'profile> Tables<'profile> {
    fn column(&self, table: &str, column: &str) -> &'profile Value {
        let own = &self.thread[table][column];
        if own.is_null() { &self.shared[table][column] } else { own }
    }

    /// Names of the functions on a stack, the innermost first.
    fn names(&self, stack: u64) -> Vec<String> {
        let (prefixes, frames) = (self.column("stackTable", "prefix"), self.column("stackTable", "frame"));
        let functions = self.column("frameTable", "func");
        let mut names = Vec::new();
        let mut next = Some(stack);
        while let Some(stack) = next {
            // A damaged profile must not make us go in circles: a caller stands before its callee in the table.
            next = prefixes[stack as usize].as_u64().filter(|prefix| *prefix < stack);
            let function = frames[stack as usize].as_u64().and_then(|frame| functions[frame as usize].as_u64());
            names.push(function.map_or_else(|| "unknown".to_owned(), |function| self.name(function)));
        }
        names
    }

    fn name(&self, function: u64) -> String {
        let name = &self.column("funcTable", "name")[function as usize];
        let strings = if self.thread["stringArray"].is_null() { self.shared } else { self.thread };
        let text = name.as_u64().and_then(|index| strings["stringArray"][index as usize].as_str());
        text.unwrap_or("unknown").to_owned()
    }
}

/// A warm colour that a name always has.
fn colour(name: &str) -> String {
    let hash = name.bytes().fold(5_381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    format!("rgb({},{},{})", 205 + hash % 50, 90 + (hash >> 8) % 110, 50 + (hash >> 16) % 40)
}

/// Text as XML spells it; characters that XML does not have become spaces.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::Stacks;

    /// `main` called `busy<T>` in three samples and nothing in one; one sample had no stack.
    fn profile(shared: bool) -> Vec<u8> {
        let tables = serde_json::json!({
            "stackTable": { "prefix": [null, 0], "frame": [0, 1] },
            "frameTable": { "func": [0, 1] },
            "funcTable": { "name": [0, 1] },
            "stringArray": ["main", "busy<T>"],
        });
        let samples = serde_json::json!({ "stack": [1, 1, null, 1, 0] });
        let mut thread = serde_json::json!({ "samples": samples });
        if shared {
            return serde_json::json!({ "threads": [thread], "shared": tables }).to_string().into_bytes();
        }
        for (name, table) in tables.as_object().unwrap() {
            thread[name] = table.clone();
        }
        serde_json::json!({ "threads": [thread] }).to_string().into_bytes()
    }

    #[test]
    fn boxes_are_as_wide_as_their_samples() {
        for shared in [false, true] {
            let stacks = Stacks::read(&profile(shared)).unwrap();
            assert_eq!(stacks.samples(), 4);
            let svg = stacks.draw("a & b");
            assert!(
                svg.contains("<title>main (4 samples, 100.0 %)</title><rect x=\"0.00\" y=\"36\" width=\"1200.00\"")
            );
            assert!(svg.contains(
                "<title>busy&lt;T&gt; (3 samples, 75.0 %)</title><rect x=\"0.00\" y=\"54\" width=\"900.00\""
            ));
            assert!(svg.contains("a &amp; b: 4 samples") && svg.contains("height=\"72\""));
        }
    }

    #[test]
    fn damaged_profiles_end() {
        let text = String::from_utf8(profile(false)).unwrap();
        let circle =
            text.replace("\"prefix\":[null,0]", "\"prefix\":[1,1]").replace("\"frame\":[0,1]", "\"frame\":[0,99]");
        let stacks = Stacks::read(circle.as_bytes()).unwrap();
        assert!(stacks.draw("x").contains("unknown"));
        assert!(Stacks::read(b"{}").is_err() && Stacks::read(b"no").is_err());
    }
}
