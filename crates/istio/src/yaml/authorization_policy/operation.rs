//! `to[].operation`.

use crate::Operation;
use crate::yaml::nearest::quoted;
use crate::yaml::read::{At, Mapping};

pub(super) fn to_entry(at: &At<'_>) -> Option<Operation> {
    let operation = at.mapping(&[], |fields| fields.required("operation")?.mapping(&[], operation))?;
    // Istio: "`to.operation` must not be empty".
    if operation == Operation::default() {
        at.error("expected an operation with at least one field that is not empty");
        return None;
    }
    Some(operation)
}

fn operation(fields: &mut Mapping<'_>) -> Option<Operation> {
    Some(Operation {
        hosts: fields.strings("hosts"),
        not_hosts: fields.strings("notHosts"),
        ports: fields.list("ports", port).unwrap_or_default(),
        not_ports: fields.list("notPorts", port).unwrap_or_default(),
        methods: fields.strings("methods"),
        not_methods: fields.strings("notMethods"),
        paths: fields.list("paths", path).unwrap_or_default(),
        not_paths: fields.list("notPaths", path).unwrap_or_default(),
    })
}

/// A port in quotes. Istio: `strconv.ParseUint(port, 10, 32)`, at most 65535.
pub(super) fn port(at: &At<'_>) -> Option<u16> {
    let text = at.non_empty_string()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| digits);
    if port.is_none() {
        at.error(format!("expected a port up to 65535, found {}", quoted(&text)));
    }
    port
}

fn path(at: &At<'_>) -> Option<String> {
    let path = at.non_empty_string()?;
    if let Err(wrong) = check_template(&path) {
        at.error(format!("{wrong}, found {}", quoted(&path)));
        return None;
    }
    Some(path)
}

/// Istio (`CheckValidPathTemplate`); braces outside of a template are refused in every path.
fn check_template(path: &str) -> Result<(), &'static str> {
    let template = path.contains("{*}") || path.contains("{**}");
    let mut any = false;
    for segment in path.trim_matches('/').split('/') {
        match segment {
            // Istio: "{**} is not the last operator".
            "{*}" | "{**}" if any => return Err("expected no `{*}` or `{**}` after `{**}` in a path template"),
            "{*}" => {}
            "{**}" => any = true,
            // Istio: "Contains '{' or '}' beyond a supported path template".
            _ if segment.contains(['{', '}']) => {
                return Err("expected braces only as the segments `{*}` and `{**}` of a path");
            }
            // Istio: "Contains segment … with invalid string literal".
            _ if template && !is_literal(segment) => {
                return Err("expected segments of a path template that are not empty, of letters, digits and \
                            `-._~%!$&'()+,;:@=`");
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_literal(segment: &str) -> bool {
    let literal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte);
    !segment.is_empty() && segment.bytes().all(literal)
}
