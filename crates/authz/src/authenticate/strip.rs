//! A request without the credentials that a workload reads: what may go on when one of them was refused.

use super::tokens::{Place, tokens_of};
use super::{Visible, jwt_rules, output, query};
use crate::policies::{Applicable, Policies};

/// Rounds of looking for what is left. Taken out of a query in the `istio` mode, one parameter can become two.
const MAX_ROUNDS: usize = 4;

/// Takes out every token and API key at the places where the workload looks for one, whether it would forward it or
/// not, and every header that it makes out of claims. What is none (`authorization: Basic …`, say) stays.
///
/// More than the workload itself would find goes: `bearer TOKEN` is no token to it, since its prefix is matched by case,
/// but many a library takes it for one ("case-insensitive", RFC 9110 11.1), and so does a backend that reads it.
///
/// `false` is a request that cannot be sent on without them.
pub(crate) fn strip(policies: &Policies, applicable: Applicable<'_>, visible: &mut Visible) -> bool {
    let rules = jwt_rules(applicable);
    output::remove_outputs(&rules, visible);
    for authentication in applicable.api_key_authentications() {
        visible.remove_header(authentication.header_name.as_str());
    }
    for rule in &rules {
        for header in rule.headers.iter() {
            if may_hold(visible, &header.name, &header.prefix) {
                visible.remove_header(&header.name);
            }
        }
        for name in rule.cookies.iter() {
            if has_cookie(visible, name) {
                remove_cookie(visible, name);
            }
        }
    }
    let sent = visible.path.clone();
    for _ in 0..MAX_ROUNDS {
        let found: Vec<(Place<'_>, &str)> = rules
            .iter()
            .flat_map(|rule| {
                let found = tokens_of(rule, &visible.headers, &visible.path, policies.mode());
                // A rule that reads a cookie does not say here which one: all of its own go.
                let cookies = rule.cookies.iter().map(|name| (Place::Cookie, name.as_str()));
                let is_cookie = found.iter().any(|found| matches!(found.place, Place::Cookie));
                let others = found.into_iter().map(|found| (found.place, "")).collect::<Vec<_>>();
                let others = others.into_iter().filter(|(place, _)| !matches!(place, Place::Cookie));
                others.chain(cookies.filter(move |_| is_cookie)).collect::<Vec<_>>()
            })
            .collect();
        if found.is_empty() {
            return visible.path == sent || query::can_be_sent(&visible.path);
        }
        for (place, cookie) in found {
            match place {
                Place::Header(name) => visible.remove_header(name),
                Place::Parameter(name) => visible.path = query::without(&visible.path, name, policies.mode()),
                Place::Cookie => remove_cookie(visible, cookie),
            }
        }
    }
    false
}

/// Whether somebody could read a token in a header that begins tokens with `prefix`.
fn may_hold(visible: &Visible, name: &str, prefix: &str) -> bool {
    let word = prefix.trim().to_ascii_lowercase();
    let holds = |value: &str| value.to_ascii_lowercase().contains(&word);
    visible.headers.iter().any(|(header, value)| header == name && holds(value))
}

/// Whether there is a cookie of this name, whatever blanks stand around it.
fn has_cookie(visible: &Visible, name: &str) -> bool {
    let mut lines = visible.headers.iter().filter(|(header, _)| header == "cookie");
    lines.any(|(_, line)| line.split(';').any(|cookie| is_cookie(cookie, name)))
}

fn is_cookie(cookie: &str, name: &str) -> bool {
    cookie.split_once('=').is_some_and(|(known, _)| known.trim() == name)
}

/// All cookies in one line (RFC 9113 section 8.2.3 allows that), without those of this name.
fn remove_cookie(visible: &mut Visible, name: &str) {
    let lines = visible.headers.iter().filter(|(header, _)| header == "cookie");
    let cookies = lines.flat_map(|(_, line)| line.split(';')).map(|cookie| cookie.trim_matches(' '));
    let is_other = |cookie: &&str| !is_cookie(cookie, name);
    let kept: Vec<&str> = cookies.filter(|cookie| !cookie.is_empty()).filter(is_other).collect();
    let kept = kept.join("; ");
    visible.remove_header("cookie");
    if !kept.is_empty() {
        visible.headers.push(("cookie".to_owned(), kept));
    }
}
