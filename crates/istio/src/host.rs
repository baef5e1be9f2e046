/// The fully qualified form of a host that a resource in `namespace` names.
///
/// "Istio will interpret the short name based on the namespace of the rule": a name without a dot
/// is a service of that namespace. A name with a dot and a wildcard are fully qualified already.
///
/// ```
/// assert_eq!(istio::full_host("reviews", "bookinfo"), "reviews.bookinfo.svc.cluster.local");
/// assert_eq!(istio::full_host("api.example.com", "bookinfo"), "api.example.com");
/// assert_eq!(istio::full_host("*", "bookinfo"), "*");
/// ```
pub fn full_host(host: &str, namespace: &str) -> String {
    if host.contains(['.', '*']) { host.to_owned() } else { format!("{host}.{namespace}.svc.cluster.local") }
}
