//! A lineage as a tree for people. Pure.

use std::fmt::Write as _;

use super::Node;

/// Digits of a commit that a person reads.
const DIGITS: usize = 12;

/// One line a node, with lines that lead to it.
pub fn text(root: &Node) -> String {
    let mut text = line(root);
    children(&mut text, root, "");
    text
}

fn children(text: &mut String, node: &Node, indent: &str) {
    for (number, child) in node.children.iter().enumerate() {
        let last = number + 1 == node.children.len();
        let (branch, below) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        let _ = write!(text, "{indent}{branch}{}", line(child));
        children(text, child, &format!("{indent}{below}"));
    }
}

fn line(node: &Node) -> String {
    let mut line = String::new();
    if !node.relation.is_empty() {
        let _ = write!(line, "{} ", node.relation);
    }
    let _ = write!(line, "{} {}", node.kind, node.name);
    if let Some(commit) = &node.commit {
        let _ = write!(line, "@{}", commit.get(..DIGITS).unwrap_or(commit));
    }
    let details: Vec<String> = node
        .details
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    if !details.is_empty() {
        let _ = write!(line, " ({})", details.join(", "));
    }
    line.push('\n');
    line
}
