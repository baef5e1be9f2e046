//! The variables of functions, as far as a template says which there are: `!If` has two answers, and parameters have
//! defaults.

use super::parts::Function;
use super::ways::Could;
use super::yaml::{Member, Node, Value};
use super::{Reader, properties};

/// Deepest nesting of conditions that is followed.
const MAX_DEPTH: usize = 32;

/// How many parts of conditions are looked at in one template: ten names in each of sixteen conditions would take longer
/// than anybody waits.
const MAX_STEPS: usize = 100_000;

/// Shadow mode of a function that has its variables, or may have them.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    /// Whether it is on with the defaults of the template's parameters; with other values it may be on all the same.
    pub(crate) by_default: Could,
    /// `CAUSEWAY_SHADOW_UNTIL`, where it is known.
    pub(crate) until: Option<String>,
}

/// The variables of a function.
#[derive(Default)]
struct Variables<'n> {
    /// Each with whether it is there by default.
    members: Vec<(&'n Member, Could)>,
    /// Whether there may be others, that only the deployment knows.
    are_hidden: bool,
}

impl<'n> Variables<'n> {
    fn find(&self, name: &str) -> Option<&'n Node> {
        self.members.iter().find(|(member, _)| member.name == name).map(|(member, _)| &member.node)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn function(&mut self, resource: &'a Member) {
        let mut all = Variables::default();
        self.environment(properties(resource).and_then(|at| at.get("Environment")), Could::Yes, &mut all);
        let mut below = Variables::default();
        let global = self.globals.and_then(|globals| globals.get("Function"));
        self.environment(global.and_then(|at| at.get("Environment")), Could::Yes, &mut below);
        all.are_hidden |= below.are_hidden;
        // The function's own stand over those of Globals.
        let own = all.members.iter().filter(|(_, there)| *there == Could::Yes);
        let own: Vec<&str> = own.map(|(member, _)| member.name.as_str()).collect();
        below.members.retain(|(member, _)| !own.contains(&member.name.as_str()));
        all.members.append(&mut below.members);
        self.functions.push(Function {
            name: resource.name.clone(),
            aliases: self.aliases_of(&resource.name),
            is_published: self.is_published(resource),
            is_causeway: all.members.iter().any(|(member, _)| member.name.starts_with("CAUSEWAY_")),
            hides_variables: all.are_hidden,
            response: all.find("CAUSEWAY_RESPONSE").map(|node| self.text(node)),
            limits_rates: all.find("CAUSEWAY_RATE_LIMITS_TABLE").is_some(),
            shadow: self.shadow(&all),
            file: self.file.to_owned(),
            line: resource.line,
        });
    }

    /// `Environment`, and its `Variables`.
    fn environment(&self, node: Option<&'a Node>, there: Could, all: &mut Variables<'a>) {
        self.branches(node, there, all, &mut |node, there, all| match &node.value {
            Value::Mapping(_) => self.variables(node.get("Variables"), there, all),
            _ => all.are_hidden = true,
        });
    }

    fn variables(&self, node: Option<&'a Node>, there: Could, all: &mut Variables<'a>) {
        self.branches(node, there, all, &mut |node, there, all| match &node.value {
            Value::Mapping(members) => all.members.extend(members.iter().map(|member| (member, there))),
            _ => all.are_hidden = true,
        });
    }

    /// Follows `!If` to what stands there, `there` by default; `!Ref AWS::NoValue` is nothing.
    fn branches(
        &self,
        node: Option<&'a Node>,
        there: Could,
        all: &mut Variables<'a>,
        leaf: &mut dyn FnMut(&'a Node, Could, &mut Variables<'a>),
    ) {
        let Some(node) = node.filter(|node| !node.is_no_value()) else { return };
        match node.condition() {
            Some((condition, yes, no)) => {
                let holds = self.condition(condition, 0);
                self.branches(Some(yes), there.and(holds), all, leaf);
                self.branches(Some(no), there.and(holds.not()), all, leaf);
            }
            None => leaf(node, there, all),
        }
    }

    fn shadow(&self, all: &Variables<'_>) -> Option<Shadow> {
        let on = all.members.iter().filter(|(member, _)| member.name == "CAUSEWAY_SHADOW_WORKLOADS");
        let on = on.filter(|(member, _)| member.node.scalar().is_none_or(|text| !text.trim().is_empty()));
        let on = on.map(|(member, there)| match self.by_default(&member.node, 0) {
            Some(text) if text.trim().is_empty() => Could::No,
            Some(_) => *there,
            None => there.and(Could::Perhaps),
        });
        let hidden = all.are_hidden.then_some(Could::Perhaps);
        let until = all.find("CAUSEWAY_SHADOW_UNTIL").and_then(|node| self.by_default(node, 0));
        Some(Shadow { by_default: on.chain(hidden).max()?, until: until.filter(|text| !text.is_empty()) })
    }

    /// The text that a value is with the defaults of the parameters; empty for `!Ref AWS::NoValue`.
    fn by_default(&self, node: &Node, depth: usize) -> Option<String> {
        if node.is_no_value() || matches!(node.value, Value::Null) {
            return Some(String::new());
        }
        if let Some((condition, yes, no)) = node.condition().filter(|_| depth < MAX_DEPTH) {
            return match self.condition(condition, depth) {
                Could::Yes => self.by_default(yes, depth + 1),
                Could::No => self.by_default(no, depth + 1),
                Could::Perhaps => None,
            };
        }
        match &node.value {
            Value::Function(name, argument) if name == "Ref" => {
                let parameter = self.root.get("Parameters")?.get(argument.scalar()?)?;
                parameter.get("Default")?.scalar().map(str::to_owned)
            }
            _ => node.scalar().map(str::to_owned),
        }
    }

    /// Whether the condition of this name holds with the defaults of the parameters.
    fn condition(&self, name: &str, depth: usize) -> Could {
        let test = self.root.get("Conditions").and_then(|conditions| conditions.get(name));
        test.filter(|_| depth < MAX_DEPTH).map_or(Could::Perhaps, |test| self.holds(test, depth + 1))
    }

    fn holds(&self, test: &Node, depth: usize) -> Could {
        self.steps.set(self.steps.get() + 1);
        if depth > MAX_DEPTH || self.steps.get() > MAX_STEPS {
            return Could::Perhaps;
        }
        let named = |node: &Node| node.scalar().map_or(Could::Perhaps, |name| self.condition(name, depth));
        let (name, argument) = match &test.value {
            Value::Function(name, argument) => (name.as_str(), &**argument),
            // `Condition: NAME` in its long form.
            _ => return test.get("Condition").map_or(Could::Perhaps, named),
        };
        let parts = match &argument.value {
            Value::List(parts) => parts.as_slice(),
            _ => &[],
        };
        match (name, parts) {
            ("Condition", _) => named(argument),
            ("Not", [one]) => self.holds(one, depth + 1).not(),
            ("And", [_, ..]) => parts.iter().fold(Could::Yes, |all, one| all.and(self.holds(one, depth + 1))),
            ("Or", [_, ..]) => {
                parts.iter().fold(Could::Yes, |none, one| none.and(self.holds(one, depth + 1).not())).not()
            }
            ("Equals", [one, other]) => match (self.by_default(one, depth + 1), self.by_default(other, depth + 1)) {
                (Some(one), Some(other)) if one == other => Could::Yes,
                (Some(_), Some(_)) => Could::No,
                _ => Could::Perhaps,
            },
            _ => Could::Perhaps,
        }
    }
}

impl Could {
    fn and(self, other: Self) -> Self {
        self.min(other)
    }

    fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Perhaps => Self::Perhaps,
            Self::Yes => Self::No,
        }
    }
}

impl Node {
    pub(super) fn is_no_value(&self) -> bool {
        let reference = |name: &str, argument: &Self| name == "Ref" && argument.scalar() == Some("AWS::NoValue");
        matches!(&self.value, Value::Function(name, argument) if reference(name, argument))
    }

    /// `!If [CONDITION, YES, NO]`.
    pub(super) fn condition(&self) -> Option<(&str, &Self, &Self)> {
        let Value::Function(name, argument) = &self.value else { return None };
        match &argument.value {
            Value::List(parts) if name == "If" => match parts.as_slice() {
                [condition, yes, no] => Some((condition.scalar()?, yes, no)),
                _ => None,
            },
            _ => None,
        }
    }
}
