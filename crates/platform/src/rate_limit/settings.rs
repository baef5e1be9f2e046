//! How rate limits are configured.

/// What happens to requests while the table of rate limits cannot be used.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Outage {
    /// Each sandbox limits each client by itself: a client gets its limit once in every sandbox.
    #[default]
    Allow,
    /// They are denied.
    Deny,
}

#[cfg(feature = "aws")]
pub use aws::RateLimitConfig;

#[cfg(feature = "aws")]
mod aws {
    use super::Outage;
    use crate::aws::AwsConfig;
    use crate::env::{EnvError, Reader};
    use crate::rate_limit::Limit;

    const TABLE: &str = "CAUSEWAY_RATE_LIMITS_TABLE";
    const LIMIT: &str = "CAUSEWAY_RATE_LIMIT";
    const OUTAGE: &str = "CAUSEWAY_RATE_LIMIT_OUTAGE";

    /// How rate limits are configured in AWS.
    #[derive(Clone, Debug)]
    pub struct RateLimitConfig {
        /// `CAUSEWAY_RATE_LIMITS_TABLE`: the DynamoDB table.
        pub table: String,
        /// `CAUSEWAY_RATE_LIMIT`: the limit of each client that has none of its own.
        pub limit: Limit,
        /// `CAUSEWAY_RATE_LIMIT_OUTAGE`: what happens while the table cannot be used.
        pub outage: Outage,
        /// Region, credentials and endpoints.
        pub aws: AwsConfig,
    }

    impl RateLimitConfig {
        /// Reads the three variables, and AWS' own when they are there.
        ///
        /// # Errors
        /// Table or limit without the other, an outage policy without them, a value that is not valid, or a variable of
        /// AWS is missing.
        pub fn from_env(env: &Reader<'_>) -> Result<Option<Self>, EnvError> {
            let limit = env.parsed::<Limit>(LIMIT)?;
            let outage = env.checked(OUTAGE, |word| match word {
                "allow" => Ok(Outage::Allow),
                "deny" => Ok(Outage::Deny),
                _ => Err("expected allow (each sandbox limits by itself) or deny".to_owned()),
            })?;
            let Some((table, _)) = env.pair(TABLE, LIMIT)? else {
                return match outage {
                    None => Ok(None),
                    Some(_) => Err(EnvError::HalfGroup { present: OUTAGE.to_owned(), missing: TABLE.to_owned() }),
                };
            };
            // `pair` has seen that it is there.
            let Some(limit) = limit else { return Ok(None) };
            Ok(Some(Self { table, limit, outage: outage.unwrap_or_default(), aws: AwsConfig::from_env(env)? }))
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use crate::env::MapEnv;

        fn read(variables: &[(&str, &str)]) -> Result<Option<RateLimitConfig>, String> {
            let aws = [("AWS_REGION", "eu-central-1"), ("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "s")];
            let env = aws.iter().chain(variables).fold(MapEnv::default(), |env, (name, value)| env.with(name, *value));
            RateLimitConfig::from_env(&Reader::new(&env)).map_err(|error| error.to_string())
        }

        #[test]
        fn it_is_off_unless_a_table_is_named() {
            assert!(read(&[]).unwrap().is_none());
            assert!(read(&[(TABLE, ""), (LIMIT, ""), (OUTAGE, "")]).unwrap().is_none());
            for (outage, expected) in [("", Outage::Allow), ("allow", Outage::Allow), ("deny", Outage::Deny)] {
                let config = read(&[(TABLE, "limits"), (LIMIT, "50/s,100"), (OUTAGE, outage)]).unwrap().unwrap();
                assert_eq!((config.table.as_str(), config.outage), ("limits", expected));
                assert_eq!(config.limit.to_string(), "50/s,100");
            }
        }

        #[test]
        fn each_wrong_value_is_named() {
            for (variables, expected) in [
                (vec![(TABLE, "t")], "CAUSEWAY_RATE_LIMIT is not set, but CAUSEWAY_RATE_LIMITS_TABLE is"),
                (vec![(LIMIT, "50/s,100")], "CAUSEWAY_RATE_LIMITS_TABLE is not set, but CAUSEWAY_RATE_LIMIT is"),
                (vec![(OUTAGE, "deny")], "CAUSEWAY_RATE_LIMITS_TABLE is not set, but CAUSEWAY_RATE_LIMIT_OUTAGE is"),
                (
                    vec![(TABLE, "t"), (LIMIT, "50"), (OUTAGE, "deny")],
                    "CAUSEWAY_RATE_LIMIT=\"50\" is not valid: expected RATE/s,BURST",
                ),
                (
                    vec![(TABLE, "t"), (LIMIT, "50/s,100"), (OUTAGE, "open")],
                    "CAUSEWAY_RATE_LIMIT_OUTAGE=\"open\" is not valid: expected allow",
                ),
            ] {
                let error = read(&variables).unwrap_err();
                assert!(error.starts_with(expected), "{error}");
            }
        }

        #[test]
        fn aws_is_needed_then_and_only_then() {
            let read = |env: MapEnv| RateLimitConfig::from_env(&Reader::new(&env)).map_err(|error| error.to_string());
            assert!(read(MapEnv::default()).unwrap().is_none());
            let error = read(MapEnv::from([(TABLE, "t"), (LIMIT, "1/s,1")])).unwrap_err();
            assert!(error.starts_with("AWS_REGION is not set"), "{error}");
        }
    }
}
