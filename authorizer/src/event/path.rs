//! Which path the policies are asked about.

use authz::path::NotCanonical;
use percent_encoding::percent_decode_str;

use super::refused::Why;

/// The route that API Gateway chose: its path pattern, and the parameters of the path.
pub(super) struct Route {
    pub(super) pattern: Option<String>,
    pub(super) parameters: Vec<(String, String)>,
}

/// Of an HTTP API, which shows it percent-decoded: without stage and base path, readable in one way only, and the one that
/// the API's route was chosen by. Percent-encoded where no request line could have held it otherwise.
pub(super) fn of_http(path: &str, stage: &str, base_path: &str, route: &Route) -> Result<String, Why> {
    // An HTTP API shows a named stage in front of the path, and `$default` not at all. AWS' samples show
    // paths without their stage too, so one that is not there is not missed.
    let stage = if stage == "$default" { "" } else { stage };
    let path = without(without(path, stage), base_path);
    authz::path::canonical(path).map_err(not_canonical)?;
    match route.path()? {
        // What was taken off may have been the API's own; then this is another path than the one that was routed.
        Some(routed) if routed != path => {
            Err(Why::paths_differ("the path is not what route and pathParameters add up to"))
        }
        _ => Ok(authz::path::encode(path).into_owned()),
    }
}

/// Of a REST API, which shows it as it was sent: `path` with the base path of a custom domain, `requestContext.path` with
/// the stage or the base path, `methodArn` (`routed`) with neither. All three and the resource must mean one path.
pub(super) fn of_rest(
    path: &str,
    context_path: Option<&str>,
    (stage, base_path): (&str, &str),
    routed: &str,
    route: &Route,
) -> Result<String, Why> {
    let own = |path| [path, without(path, base_path), without(path, stage)];
    let judged = own(path).into_iter().find(|own| agree(own, routed));
    let judged = judged.ok_or_else(|| Why::paths_differ("path and methodArn differ"))?;
    authz::path::canonical_encoded(judged).map_err(not_canonical)?;
    if context_path.is_some_and(|path| !own(path).iter().any(|own| agree(judged, own))) {
        return Err(Why::paths_differ("path and requestContext.path differ"));
    }
    match route.path()? {
        Some(resource) if agree(judged, &resource) => Ok(judged.to_owned()),
        Some(_) => Err(Why::paths_differ("the path is not what resource and pathParameters add up to")),
        None => Err(Why::missing("resource")),
    }
}

/// Checks that `other` means the path `judged` as well, with stage and base path or without.
pub(super) fn check_http(judged: &str, other: &str, stage: &str, base_path: &str) -> Result<(), Why> {
    let bare = without(without(other, stage), base_path);
    let own = [other, without(other, stage), without(other, base_path), bare];
    if own.iter().any(|own| agree(judged, own)) {
        return Ok(());
    }
    Err(Why::not_canonical("another path stands in methodArn, routeArn or requestContext than the one that is judged"))
}

/// Of an ARN alone: nobody says whether it is percent-decoded, so it must not matter.
pub(super) fn of_arn(path: &str) -> Result<String, Why> {
    authz::path::canonical(path).map_err(not_canonical)?;
    Ok(authz::path::encode(path).into_owned())
}

fn not_canonical(error: NotCanonical) -> Why {
    Why::not_canonical(&error.to_string())
}

/// Whether `other` is `sent`, or a decoded or re-encoded form of it that nobody can read in another way. A slash at the end
/// counts: where API Gateway drops one, the backend gets another path than a policy that looks at it.
fn agree(sent: &str, other: &str) -> bool {
    let decoded = |path: &str| -> Vec<u8> { percent_decode_str(path).collect() };
    let significant = |byte: &u8| b"/\\?#%;.".contains(byte);
    // Bytes that have a meaning; a `%` has its own, and is gone after decoding unless it was encoded itself.
    let count = |bytes: &[u8]| bytes.iter().filter(|byte| significant(byte)).count();
    let kept = |path: &str, clear: &[u8]| {
        let escapes = path.bytes().filter(|byte| *byte == b'%').count();
        count(path.as_bytes()) - escapes == count(clear)
    };
    sent == other || {
        let (clear, other_clear) = (decoded(sent), decoded(other));
        clear == other_clear && kept(sent, &clear) && kept(other, &clear)
    }
}

/// `path` without the segments `first` in front; as it is when it does not begin with them.
fn without<'a>(path: &'a str, first: &str) -> &'a str {
    match path.strip_prefix('/').and_then(|rest| rest.strip_prefix(first)) {
        _ if first.is_empty() => path,
        Some("") => "/",
        Some(rest) if rest.starts_with('/') => rest,
        _ => path,
    }
}

impl Route {
    /// The path that the pattern and the parameters add up to, which is the path the backend is routed by.
    fn path(&self) -> Result<Option<String>, Why> {
        let disagree = || Why::not_canonical("pathParameters are not those of the route");
        let Some(pattern) = &self.pattern else {
            return if self.parameters.is_empty() { Ok(None) } else { Err(disagree()) };
        };
        let mut used = 0;
        let mut path = String::new();
        for segment in pattern.split('/').skip(1) {
            path.push('/');
            match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                None => path.push_str(segment),
                Some(name) => {
                    let greedy = name.strip_suffix('+');
                    let name = greedy.unwrap_or(name);
                    let (_, value) = self.parameters.iter().find(|(n, _)| n == name).ok_or_else(disagree)?;
                    // It stands for one segment: a slash in it was sent encoded, and a backend may take it for a real one.
                    if greedy.is_none() && value.contains('/') {
                        return Err(Why::not_canonical("the parameter of one segment has a slash, sent as %2F"));
                    }
                    path.push_str(value);
                    used += 1;
                }
            }
        }
        if used == self.parameters.len() { Ok(Some(path)) } else { Err(disagree()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_path_agree_and_others_do_not() {
        for (sent, other, expected) in [
            ("/a", "/a", true),
            ("/a%20b", "/a%20b", true),
            ("/a%20b", "/a b", true),
            ("/%C3%A9", "/é", true),
            ("/%C3%A9", "/%c3%a9", true),
            ("/a:b", "/a%3Ab", true),
            ("/a%2Fb", "/a%2Fb", true),
            ("/a%252Fb", "/a%252Fb", true),
            ("/a/", "/a", false),
            ("/a", "/a/", false),
            ("/a", "/b", false),
            ("/a%2Fb", "/a/b", false),
            ("/a%2Fb", "/a%2fb", false),
            ("/a/b", "/a%2Fb", false),
            ("/a%3Fb", "/a?b", false),
            ("/a%252Fb", "/a%2Fb", false),
            ("/%2e%2e/b", "/../b", false),
            ("/a%3Bb", "/a;b", false),
        ] {
            assert_eq!(agree(sent, other), expected, "{sent} {other}");
        }
    }
}
