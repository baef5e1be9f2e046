//! What is known of the service, checked: nothing in it can end a line, a string or a comment of YAML.

use platform::https::checked_url;

/// The service to write a configuration for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Service {
    /// A DNS label.
    pub(super) name: String,
    /// A DNS label.
    pub(super) namespace: String,
    /// The host at API Gateway, if the service stands behind one.
    pub(super) host: Option<String>,
    /// The claim `iss`.
    pub(super) issuer: String,
    /// The claim `aud`.
    pub(super) audience: String,
    /// Paths that may be called: exact, or with `/*` at the end. Never empty.
    pub(super) paths: Vec<String>,
}

/// The longest DNS label (RFC 1123, section 2.1), and the longest value of a Kubernetes label.
const LONGEST_LABEL: usize = 63;

/// What is put behind the service's name for the gateway in front of it. Not `-gateway` alone: workloads of a mesh are
/// named so, and one that runs as the gateway's service account would count as the gateway.
const GATEWAY_SUFFIX: &str = "-api-gateway";

/// The label of the gateway's workload; its value is the service's name. No pod has it by accident, and ALLOW policies
/// add up: by a label that others have, such as `app`, what the gateway lets pass would be open at them, too.
pub(super) const GATEWAY_LABEL: &str = "causeway.dev/api";

/// The root namespace, unless the mesh configuration names another one as `rootNamespace`. "If set to root namespace,
/// the policy applies to all namespaces in a mesh", says Istio of a policy's namespace; its selector still counts, and
/// finds the workloads with that label in all of them.
const ROOT_NAMESPACE: &str = "istio-system";

/// The longest issuer, audience and path.
const LONGEST: usize = 1024;

/// The most paths.
const MOST_PATHS: usize = 100;

impl Service {
    /// Checks what the options say.
    ///
    /// # Errors
    /// One line for each that is refused.
    pub(super) fn checked(
        name: String,
        namespace: String,
        host: Option<String>,
        issuer: String,
        audience: Option<String>,
        paths: Vec<String>,
    ) -> Result<Self, Vec<String>> {
        let longest = LONGEST_LABEL - if host.is_some() { GATEWAY_SUFFIX.len() } else { 0 };
        let mut wrong: Vec<String> = Vec::new();
        let mut refuse = |option: &str, value: &str, expected: &str| {
            wrong.push(format!("{option} {value:?}: expected {expected}"));
        };
        // A Service's name is a label of RFC 1035: it begins with a letter.
        if !is_label(&name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() > longest {
            let expected = format!(
                "a DNS label: at most {longest} of a to z, 0 to 9 and `-`, a letter first and no `-` at the end"
            );
            refuse("--service", &name, &expected);
        }
        if !is_label(&namespace) {
            refuse(
                "--namespace",
                &namespace,
                "a DNS label: at most 63 of a to z, 0 to 9 and `-`, no `-` at either end",
            );
        }
        if namespace == ROOT_NAMESPACE {
            refuse(
                "--namespace",
                &namespace,
                "a namespace of the service's own: this is Istio's root namespace, whose policies are for workloads of \
                 every namespace",
            );
        }
        if let Some(host) = host.as_deref().filter(|host| !is_host(host)) {
            refuse("--host", host, "a host name such as api.shop.example, without scheme, port and path");
        }
        if !is_issuer(&issuer) {
            refuse("--issuer", &issuer, "an https URL such as https://issuer.example, without query and `*`");
        }
        if let Some(audience) = audience.as_deref().filter(|audience| !is_audience(audience)) {
            refuse("--audience", audience, "a word of visible ASCII characters");
        }
        for path in paths.iter().filter(|path| !is_path(path)) {
            refuse("--path", path, "a path such as /orders or /orders/*, as the mesh normalises it");
        }
        if paths.len() > MOST_PATHS {
            wrong.push(format!("--path: at most {MOST_PATHS}, found {}", paths.len()));
        }
        if let Some(twice) = paths.iter().enumerate().find(|(at, path)| paths.iter().take(*at).any(|p| p == *path)) {
            wrong.push(format!("--path {:?} is given twice", twice.1));
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let audience = audience.unwrap_or_else(|| name.clone());
        let paths = if paths.is_empty() { vec![format!("/{name}"), format!("/{name}/*")] } else { paths };
        Ok(Self { name, namespace, host, issuer, audience, paths })
    }

    /// The name of the Gateway in front of the service, of its service account and of the policies for it.
    pub(super) fn gateway(&self) -> String {
        format!("{}{GATEWAY_SUFFIX}", self.name)
    }

    /// The scope that opens the paths for reading.
    pub(super) fn scope(&self) -> String {
        format!("{}.read", self.name)
    }
}

/// RFC 1123, section 2.1, in lower case as Kubernetes wants it.
fn is_label(text: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LONGEST_LABEL).contains(&text.len())
        && text.chars().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A name of at least two labels; one that ends with digits would be an address.
fn is_host(text: &str) -> bool {
    let is_name = |last: &str| last.starts_with(|c: char| c.is_ascii_lowercase());
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(is_label)
        && text.rsplit('.').next().is_some_and(is_name)
}

fn is_issuer(text: &str) -> bool {
    text.starts_with("https://")
        && text.len() <= LONGEST
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '*' | '?' | '#' | '@'))
        && checked_url(text).is_ok()
}

fn is_audience(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic())
}

/// A path that is what the mesh makes of it, and no template; `*` stands alone in the last segment.
fn is_path(text: &str) -> bool {
    let whole = text.strip_suffix('*').unwrap_or(text);
    // RFC 3986, section 3.3, without what is encoded and without parameters, which backends read in different ways.
    let inside = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()+,=:@/".contains(c);
    text.len() <= LONGEST
        && whole.starts_with('/')
        && (whole == text || whole.ends_with('/'))
        && whole.chars().all(inside)
        && !whole.contains("//")
        && whole.split('/').all(|part| !matches!(part, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_they_must_be() {
        let long = "a".repeat(64);
        for (text, label, host, path) in [
            ("orders", true, false, false),
            ("o-1", true, false, false),
            ("1", true, false, false),
            ("", false, false, false),
            ("-a", false, false, false),
            ("a-", false, false, false),
            ("Orders", false, false, false),
            ("a_b", false, false, false),
            (long.as_str(), false, false, false),
            ("a: b", false, false, false),
            ("a\nkind: x", false, false, false),
            ("api.shop.example", false, true, false),
            ("192.0.2.1", false, false, false),
            ("*.shop.example", false, false, false),
            ("shop.example:443", false, false, false),
            ("shop..example", false, false, false),
            ("/", false, false, true),
            ("/*", false, false, true),
            ("/orders", false, false, true),
            ("/orders/", false, false, true),
            ("/orders/*", false, false, true),
            ("/orders*", false, false, false),
            ("/*/orders", false, false, false),
            ("/a/../b", false, false, false),
            ("//a", false, false, false),
            ("/a//*", false, false, false),
            ("/a//", false, false, false),
            ("//", false, false, false),
            ("/a/./b", false, false, false),
            ("/a;b", false, false, false),
            ("/a|b", false, false, false),
            ("/a?b", false, false, false),
            ("/a%2f", false, false, false),
            ("/{*}", false, false, false),
            ("/a\"]", false, false, false),
            ("/a b", false, false, false),
        ] {
            assert_eq!((is_label(text), is_host(text), is_path(text)), (label, host, path), "{text}");
        }
        for (text, fine) in [
            ("https://issuer.example", true),
            ("https://tenant.issuer.example/", true),
            ("https://issuer.example/a/b", true),
            ("http://issuer.example", false),
            ("https://issuer.example/*", false),
            ("https://issuer.example/?a", false),
            ("https://a@issuer.example", false),
            ("https://issuer.example/\"]", false),
            ("https://issuer.example\n- x", false),
            ("https://", false),
            ("issuer.example", false),
        ] {
            assert_eq!(is_issuer(text), fine, "{text}");
        }
    }
}
