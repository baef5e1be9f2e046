//! Where the documents of the configuration stand, and what they are called in it.

use std::collections::BTreeMap;

use istio::{Meta, Resources};

/// File and line of each document, by kind, namespace and name. Empty for a bundle, which keeps none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places(BTreeMap<(String, String, String), String>);

impl Places {
    pub(crate) fn of(resources: &Resources) -> Self {
        let mut places = Self::default();
        resources.authorization_policies.iter().for_each(|p| places.add("AuthorizationPolicy", &p.meta));
        resources.request_authentications.iter().for_each(|a| places.add("RequestAuthentication", &a.meta));
        resources.api_key_authentications.iter().for_each(|a| places.add("ApiKeyAuthentication", &a.meta));
        places
    }

    fn add(&mut self, kind: &str, meta: &Meta) {
        let key = (kind.to_owned(), meta.namespace.clone(), meta.name.clone());
        self.0.insert(key, meta.origin.to_string());
    }

    /// `FILE:LINE`, if it is known.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&str> {
        self.0.get(&(kind.to_owned(), namespace.to_owned(), name.to_owned())).map(String::as_str)
    }

    /// `NAMESPACE/NAME (FILE:LINE)` of an `AuthorizationPolicy`.
    pub(crate) fn policy(&self, namespace: &str, name: &str) -> String {
        match self.find("AuthorizationPolicy", namespace, name) {
            Some(place) => format!("{namespace}/{name} ({place})"),
            None => format!("{namespace}/{name}"),
        }
    }
}
