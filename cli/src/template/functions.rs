//! Which function of a template a text names: by its logical id or its name, or by an alias or a version of it.

use super::ways::names;
use super::yaml::{Member, Node, Value};
use super::{Reader, kind, properties};

/// Most aliases and versions that are followed, one to the other.
const MAX_STEPS: usize = 4;

impl Reader<'_> {
    /// The function of the template that this text names, be it by an alias or a version.
    pub(super) fn function_in(&self, node: &Node) -> Option<String> {
        self.function_within(node, MAX_STEPS)
    }

    fn function_within(&self, node: &Node, steps: usize) -> Option<String> {
        self.function_named(node)
            .or_else(|| self.function_behind(node, steps))
            .or_else(|| self.function_published_as(node))
    }

    /// Whether a parameter or another stack says which function this is.
    pub(super) fn is_of_parameter(&self, node: &Node) -> bool {
        let parameters = self.root.get("Parameters").map(Node::members).unwrap_or_default();
        let is_outside = |node: &Node| match &node.value {
            Value::Function(name, argument) => match name.as_str() {
                "Ref" => argument.scalar().is_some_and(|name| parameters.iter().any(|one| one.name == name)),
                name => matches!(name, "ImportValue" | "FindInMap"),
            },
            _ => false,
        };
        node.alternatives().into_iter().flatten().any(is_outside)
    }

    /// The aliases and versions of a function, by their logical ids.
    pub(super) fn aliases_of(&self, function: &str) -> Vec<String> {
        let leads = |alias: &&Member| {
            let of = properties(alias).and_then(|at| at.get("FunctionName"));
            of.and_then(|node| self.function_in(node)).as_deref() == Some(function)
        };
        self.aliases().filter(leads).map(|alias| alias.name.clone()).collect()
    }

    /// Whether SAM makes an alias of a function.
    pub(super) fn is_published(&self, function: &Member) -> bool {
        let global = self.globals.and_then(|globals| globals.get("Function"));
        let mut places = [properties(function), global].into_iter().flatten();
        kind(function) == "AWS::Serverless::Function" && places.any(|at| at.get("AutoPublishAlias").is_some())
    }

    /// The function of the template whose `FunctionName` is in this text, or whose logical id is a word of it.
    fn function_named(&self, node: &Node) -> Option<String> {
        let functions = || {
            let all = self.resources.iter();
            all.filter(|one| matches!(kind(one), "AWS::Serverless::Function" | "AWS::Lambda::Function"))
        };
        let texts = templates(node);
        let is_called = |resource: &&Member| {
            let Some(own) = properties(resource).and_then(|at| at.get("FunctionName")) else { return false };
            templates(own).iter().any(|name| texts.iter().any(|text| is_name_in(text, name)))
        };
        let found = functions().find(is_called).or_else(|| functions().find(|one| names(node, &one.name)));
        found.map(|resource| resource.name.clone())
    }

    /// The function behind an alias or a version of the template.
    fn function_behind(&self, node: &Node, steps: usize) -> Option<String> {
        let steps = steps.checked_sub(1)?;
        let alias = self.aliases().find(|alias| names(node, &alias.name))?;
        self.function_within(properties(alias)?.get("FunctionName")?, steps)
    }

    /// The function behind an alias that SAM makes.
    fn function_published_as(&self, node: &Node) -> Option<String> {
        let text = node.shown();
        let own = |word: &str| self.resources.iter().any(|resource| resource.name == word);
        let words: Vec<&str> = words(&text).filter(|word| !own(word)).collect();
        let mut published = self.resources.iter().filter(|resource| self.is_published(resource));
        let found = published.find(|function| words.iter().any(|word| is_published_alias(word, &function.name)))?;
        Some(found.name.clone())
    }

    fn aliases(&self) -> impl Iterator<Item = &Member> {
        self.resources.iter().filter(|one| matches!(kind(one), "AWS::Lambda::Alias" | "AWS::Lambda::Version"))
    }
}

/// The texts that a value can be.
fn templates(node: &Node) -> Vec<String> {
    node.alternatives().into_iter().flatten().map(Node::template).collect()
}

/// Whether a text names the function of this name: "`my-function`", "`my-function:v1`",
/// "`arn:aws:lambda:us-west-2:123456789012:function:my-function`", "`123456789012:function:my-function`". The ARN may
/// stand in another text.
fn is_name_in(text: &str, name: &str) -> bool {
    let whole = text.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'));
    let mut arns = text.split("function:").skip(1).filter_map(|rest| rest.strip_prefix(name));
    !name.is_empty() && (whole || arns.any(|rest| rest.is_empty() || rest.starts_with([':', '/'])))
}

/// The words of a text, of which logical ids are one each.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
}

/// Whether SAM makes an alias of the function under this logical id: `OrdersAliaslive` for `AutoPublishAlias: live`.
pub(crate) fn is_published_alias(id: &str, function: &str) -> bool {
    let alias = id.strip_prefix(function).and_then(|rest| rest.strip_prefix("Alias"));
    alias.is_some_and(|alias| !alias.is_empty())
}
