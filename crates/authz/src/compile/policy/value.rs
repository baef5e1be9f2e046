//! Values of rules, read.

use istio::{IpBlock, Meta};

use crate::compile::Compiler;
use crate::compiled::{IpBlocks, Namespaces, Patterns, RequestPrincipals, ServiceAccounts, Values};
use crate::matchers::{IpRange, NamespaceGlob, Pattern, RequestPrincipal, ServiceAccount};

/// Values of `serviceAccounts`, at most, and bytes of each: Istio's limits.
const MAX_SERVICE_ACCOUNTS: usize = 16;
const MAX_SERVICE_ACCOUNT_BYTES: usize = 320;

pub(super) fn patterns(values: &[String], not_values: &[String]) -> Patterns {
    let parse = |values: &[String]| values.iter().map(|value| Pattern::parse(value)).collect();
    Values { values: parse(values), not_values: parse(not_values) }
}

pub(super) fn request_principals(values: &[String], not_values: &[String]) -> RequestPrincipals {
    let parse = |values: &[String]| values.iter().map(|value| RequestPrincipal::parse(value)).collect();
    Values { values: parse(values), not_values: parse(not_values) }
}

impl Compiler<'_> {
    pub(super) fn ports(&mut self, meta: &Meta, values: &[String]) -> Option<Vec<u16>> {
        let ports: Result<Vec<u16>, _> = values.iter().map(|value| value.parse()).collect();
        if ports.is_err() {
            self.error(meta, "destination.port has a value that is not a port number");
        }
        ports.ok()
    }

    pub(super) fn addresses(&mut self, meta: &Meta, values: &[String], not_values: &[String]) -> IpBlocks {
        let mut parse = |values: &[String]| {
            let mut ranges = Vec::with_capacity(values.len());
            for value in values {
                match value.parse::<IpBlock>() {
                    Ok(block) => ranges.push(IpRange::from(&block)),
                    Err(why) => self.error(meta, format!("{why}, found {value:?}")),
                }
            }
            ranges
        };
        Values { values: parse(values), not_values: parse(not_values) }
    }

    pub(super) fn namespaces(&mut self, meta: &Meta, values: &[String], not_values: &[String]) -> Namespaces {
        let mut globs = |values: &[String]| {
            let globs: Option<Vec<_>> = values.iter().map(|value| NamespaceGlob::parse(value)).collect();
            globs.unwrap_or_else(|| {
                self.error(meta, "a namespace has a line feed");
                Vec::new()
            })
        };
        Values { values: globs(values), not_values: globs(not_values) }
    }

    pub(super) fn service_accounts(
        &mut self,
        meta: &Meta,
        values: &[String],
        not_values: &[String],
    ) -> ServiceAccounts {
        let mut accounts = |values: &[String]| {
            if values.len() > MAX_SERVICE_ACCOUNTS {
                self.error(meta, format!("found {} service accounts, expected at most 16", values.len()));
            }
            let mut accounts = Vec::with_capacity(values.len());
            for value in values {
                match service_account(value, &meta.namespace) {
                    Some(account) => accounts.push(account),
                    None => self.error(
                        meta,
                        format!(
                            "expected a service account NAME or NAMESPACE/NAME without wildcards and of at most 320 \
                             bytes, found {value:?}"
                        ),
                    ),
                }
            }
            accounts
        };
        Values { values: accounts(values), not_values: accounts(not_values) }
    }
}

/// Istio's `CheckServiceAccount`.
fn service_account(value: &str, own: &str) -> Option<ServiceAccount> {
    let mut parts = value.split('/');
    let named = parts.all(|part| !part.is_empty()) && value.split('/').count() <= 2;
    let fits = named && !value.contains('*') && value.len() <= MAX_SERVICE_ACCOUNT_BYTES;
    ServiceAccount::parse(value, own).filter(|_| fits)
}
