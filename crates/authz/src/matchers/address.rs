//! Addresses and blocks of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rkyv::{Archive, Deserialize, Serialize};

/// A value of `ipBlocks` and its like. As Envoy's `CidrRange` it holds addresses of its own family only: an
/// IPv4-mapped IPv6 address is an IPv6 address.
#[derive(Archive, Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum IpRange {
    /// A block of IPv4 addresses.
    V4 {
        /// The first of them.
        network: u32,
        /// Leading bits that count.
        prefix: u8,
    },
    /// A block of IPv6 addresses.
    V6 {
        /// The first of them.
        network: u128,
        /// Leading bits that count.
        prefix: u8,
    },
}

impl From<&istio::IpBlock> for IpRange {
    fn from(block: &istio::IpBlock) -> Self {
        let prefix = block.prefix;
        match block.address {
            IpAddr::V4(address) => Self::V4 { network: address.to_bits() & mask_v4(prefix), prefix },
            IpAddr::V6(address) => Self::V6 { network: address.to_bits() & mask_v6(prefix), prefix },
        }
    }
}

impl ArchivedIpRange {
    /// Whether `address` is in the block.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::V4 { network, prefix }, IpAddr::V4(address)) => {
                address.to_bits() & mask_v4(*prefix) == network.to_native()
            }
            (Self::V6 { network, prefix }, IpAddr::V6(address)) => {
                address.to_bits() & mask_v6(*prefix) == network.to_native()
            }
            _ => false,
        }
    }
}

impl fmt::Display for ArchivedIpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4 { network, prefix } => write!(f, "{}/{prefix}", Ipv4Addr::from_bits(network.to_native())),
            Self::V6 { network, prefix } => write!(f, "{}/{prefix}", Ipv6Addr::from_bits(network.to_native())),
        }
    }
}

fn mask_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(prefix))).unwrap_or(0)
}

fn mask_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(prefix))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::matchers::tests::archived;

    #[test]
    fn b5_addresses() {
        let cases = [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            // Bits behind the prefix do not count.
            ("10.1.2.3/8", "10.9.9.9", true),
            ("10.1.2.3/31", "10.1.2.2", true),
            ("10.1.2.3/32", "10.1.2.2", false),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "10.0.0.1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("2001:db8::1", "2001:db8::2", false),
            // Envoy compares the versions first.
            ("::ffff:10.0.0.1", "10.0.0.1", false),
            ("10.0.0.1", "::ffff:10.0.0.1", false),
            ("::ffff:10.0.0.0/104", "::ffff:10.0.0.1", true),
            ("::ffff:10.0.0.0/104", "::ffff:11.0.0.1", false),
        ];
        for (block, address, expected) in cases {
            let block: istio::IpBlock = block.parse().unwrap();
            archived(&IpRange::from(&block), |range| {
                assert_eq!(range.contains(address.parse().unwrap()), expected, "{block} {address}");
            });
        }
    }

    #[test]
    fn shown_as_a_block() {
        for (block, shown) in
            [("10.1.2.3/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32"), ("2001:db8::1/32", "2001:db8::/32")]
        {
            archived(&IpRange::from(&block.parse().unwrap()), |range| assert_eq!(range.to_string(), shown));
        }
    }
}
