//! The IAM policies that authorizers answer with.

use serde_json::Value;

/// A policy, read strictly: what is not understood is no policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy(Vec<Statement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    allow: bool,
    actions: Vec<String>,
    resources: Vec<String>,
}

/// The one action that a request is.
const INVOKE: &str = "execute-api:invoke";

impl Policy {
    pub(super) fn parse(document: &Value) -> Result<Self, String> {
        let statements = match document.get("Statement") {
            Some(Value::Array(statements)) => statements.as_slice(),
            Some(statement @ Value::Object(_)) => std::slice::from_ref(statement),
            _ => return Err("policyDocument.Statement is not a statement or a list of them".to_owned()),
        };
        statements.iter().map(Statement::parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the policy allows a request to `arn`: some statement allows it and none denies it.
    pub(super) fn allows(&self, arn: &str) -> bool {
        let mut applying = self.0.iter().filter(|statement| statement.applies(arn)).peekable();
        applying.peek().is_some() && applying.all(|statement| statement.allow)
    }

    /// Whether a statement denies it, rather than none allowing it.
    pub(super) fn denies(&self, arn: &str) -> bool {
        self.0.iter().any(|statement| !statement.allow && statement.applies(arn))
    }
}

impl Statement {
    fn parse(statement: &Value) -> Result<Self, String> {
        let object = statement.as_object().ok_or("a statement of the policy is not an object")?;
        for (name, _) in object {
            if !matches!(name.as_str(), "Sid" | "Effect" | "Action" | "Resource") {
                return Err(format!("the policy's {name} is not supported, expected Effect, Action and Resource"));
            }
        }
        let allow = match object.get("Effect").and_then(Value::as_str) {
            Some("Allow") => true,
            Some("Deny") => false,
            _ => return Err("a statement's Effect is not Allow or Deny".to_owned()),
        };
        let texts = |name: &str| -> Result<Vec<String>, String> {
            let values = match object.get(name) {
                Some(Value::Array(values)) => values.as_slice(),
                Some(value) => std::slice::from_ref(value),
                None => return Err(format!("a statement has no {name}")),
            };
            values
                .iter()
                .map(|value| {
                    value.as_str().map(str::to_owned).ok_or_else(|| format!("a statement's {name} is not text"))
                })
                .collect()
        };
        let actions = texts("Action")?.into_iter().map(|action| action.to_ascii_lowercase()).collect();
        Ok(Self { allow, actions, resources: texts("Resource")? })
    }

    fn applies(&self, arn: &str) -> bool {
        self.actions.iter().any(|action| matches(action, INVOKE))
            && self.resources.iter().any(|resource| matches(resource, arn))
    }
}

/// `*` stands for any characters, also `/`, and `?` for any one (IAM JSON policy elements: Resource). Segments that colons
/// divide are not told apart: only the resource, the last of them, can hold what a client chose.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // Where to go on after a mismatch: just past the last star, which then takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(&c) = text.get(t) {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(&own) if own == '?' || own == c => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((after, taken)) = retry else { return false };
                retry = Some((after, taken + 1));
                p = after;
                t = taken + 1;
            }
        }
    }
    pattern.iter().skip(p).all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const ARN: &str = "arn:aws:execute-api:eu-central-1:123456789012:abc/dev/GET/reviews/7";

    fn verdict(statements: Value) -> Result<bool, String> {
        Policy::parse(&json!({"Version": "2012-10-17", "Statement": statements})).map(|policy| policy.allows(ARN))
    }

    fn statement(effect: &str, action: impl Into<Value>, resource: impl Into<Value>) -> Value {
        json!({"Effect": effect, "Action": action.into(), "Resource": resource.into()})
    }

    #[test]
    fn statements_are_evaluated_as_iam_does() {
        let allow = statement("Allow", "execute-api:Invoke", ARN);
        let cases = [
            ("exact", json!([allow]), true),
            ("one statement without a list", allow.clone(), true),
            (
                "lists",
                json!([statement("Allow", json!(["s3:GetObject", "execute-api:Invoke"]), json!(["x", ARN]))]),
                true,
            ),
            ("action wildcard", json!([statement("Allow", "execute-api:*", ARN)]), true),
            ("action in another case", json!([statement("Allow", "Execute-Api:invoke", ARN)]), true),
            ("another action", json!([statement("Allow", "execute-api:InvalidateCache", ARN)]), false),
            ("star", json!([statement("Allow", "*", "*")]), true),
            ("star crosses a slash", json!([statement("Allow", "*", "arn:aws:execute-api:*:*:abc/dev/GET/*")]), true),
            ("star within", json!([statement("Allow", "*", "arn:aws:execute-api:*/GET/*/7")]), true),
            ("question mark", json!([statement("Allow", "*", ARN.replace('7', "?"))]), true),
            ("question mark is one character", json!([statement("Allow", "*", ARN.replace('7', "??"))]), false),
            ("another method", json!([statement("Allow", "*", ARN.replace("GET", "POST"))]), false),
            ("case matters in resources", json!([statement("Allow", "*", ARN.replace("reviews", "Reviews"))]), false),
            ("prefix is no match", json!([statement("Allow", "*", "arn:aws:execute-api:*/GET/reviews")]), false),
            ("deny wins", json!([statement("Allow", "*", "*"), statement("Deny", "*", ARN)]), false),
            ("deny wins in any order", json!([statement("Deny", "*", ARN), statement("Allow", "*", "*")]), false),
            (
                "a deny of something else",
                json!([statement("Deny", "*", "arn:*/POST/*"), statement("Allow", "*", "*")]),
                true,
            ),
            ("nothing", json!([]), false),
        ];
        for (name, statements, expected) in cases {
            assert_eq!(verdict(statements), Ok(expected), "{name}");
        }
    }

    #[test]
    fn what_is_not_understood_is_no_policy() {
        let mut condition = statement("Allow", "*", "*");
        condition.as_object_mut().unwrap().insert("Condition".to_owned(), json!({}));
        let cases = [
            json!("text"),
            json!([1]),
            json!([condition]),
            json!([statement("allow", "*", "*")]),
            json!([statement("Allow", 1, "*")]),
            json!([statement("Allow", "*", json!([1]))]),
            json!([{"Effect": "Allow", "Action": "*"}]),
            json!([{"Effect": "Allow", "NotAction": "*", "Resource": "*"}]),
            json!([{"Action": "*", "Resource": "*"}]),
        ];
        for statements in cases {
            assert!(verdict(statements.clone()).is_err(), "{statements}");
        }
        assert!(Policy::parse(&json!({})).is_err());
    }

    #[test]
    fn many_wildcards_are_still_matched() {
        let text = "a".repeat(2_000);
        assert!(!matches(&"*a".repeat(50), &format!("{text}b")));
        assert!(matches(&"*a".repeat(50), &text));
    }
}
