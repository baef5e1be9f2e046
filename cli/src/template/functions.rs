//! Which function of a template a text names: by its logical id or its name, or by an alias or a version of it.

use super::ways::names;
use super::yaml::{Member, Node};
use super::{Reader, kind, properties};

impl Reader<'_> {
    /// The function of the template that this text names, be it by an alias or a version.
    pub(super) fn function_in(&self, node: &Node) -> Option<String> {
        self.function_named(node).or_else(|| self.function_behind(node)).or_else(|| self.function_published_as(node))
    }

    /// The aliases and versions of a function, by their logical ids.
    pub(super) fn aliases_of(&self, function: &str) -> Vec<String> {
        let leads = |alias: &&Member| {
            let of = properties(alias).and_then(|at| at.get("FunctionName"));
            of.and_then(|node| self.function_named(node)).as_deref() == Some(function)
        };
        self.aliases().filter(leads).map(|alias| alias.name.clone()).collect()
    }

    /// Whether SAM makes an alias of a function.
    pub(super) fn is_published(&self, function: &Member) -> bool {
        let global = self.globals.and_then(|globals| globals.get("Function"));
        let mut places = [properties(function), global].into_iter().flatten();
        kind(function) == "AWS::Serverless::Function" && places.any(|at| at.get("AutoPublishAlias").is_some())
    }

    /// The function of the template whose logical id is a word of this text, or whose `FunctionName` it is.
    fn function_named(&self, node: &Node) -> Option<String> {
        let text = node.shown();
        let mut functions = self
            .resources
            .iter()
            .filter(|resource| matches!(kind(resource), "AWS::Serverless::Function" | "AWS::Lambda::Function"));
        let is_meant = |resource: &&Member| {
            let own = properties(resource).and_then(|at| at.get("FunctionName"));
            names(node, &resource.name) || own.is_some_and(|own| own.shown() == text)
        };
        functions.find(is_meant).map(|resource| resource.name.clone())
    }

    /// The function behind an alias or a version of the template.
    fn function_behind(&self, node: &Node) -> Option<String> {
        let alias = self.aliases().find(|alias| names(node, &alias.name))?;
        self.function_named(properties(alias)?.get("FunctionName")?)
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

/// The words of a text, of which logical ids are one each.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
}

/// Whether SAM makes an alias of the function under this logical id: `OrdersAliaslive` for `AutoPublishAlias: live`.
pub(crate) fn is_published_alias(id: &str, function: &str) -> bool {
    let alias = id.strip_prefix(function).and_then(|rest| rest.strip_prefix("Alias"));
    alias.is_some_and(|alias| !alias.is_empty())
}
