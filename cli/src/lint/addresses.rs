//! `ipBlocks` and `remoteIpBlocks`.

use istio::IpBlock;

use super::codes::policy;
use super::context::Context;
use super::fields::Attribute;
use super::finding::{Code, Findings, Severity};

pub(super) const CODES: &[&Code] = &[&HOST_BITS, &EVERY_ADDRESS, &BEHIND_PROXY];

static HOST_BITS: Code = Code {
    name: "ip-block-host-bits",
    severity: Severity::Warning,
    what: "a block whose address has bits behind the prefix",
    why: "Bits behind the prefix do not count: `10.1.2.3/8` is `10.0.0.0/8`, which is 16 million addresses and likely not \
          what was meant.",
    instead: "write the block's first address, or the prefix that was meant (`/32` for one address)",
    wrong: policy!("DENY", r#"  - from: [{source: {remoteIpBlocks: ["10.1.2.3/8"]}}]"#),
    right: policy!("DENY", r#"  - from: [{source: {remoteIpBlocks: ["10.0.0.0/8"]}}]"#),
};

static EVERY_ADDRESS: Code = Code {
    name: "ip-block-everything",
    severity: Severity::Warning,
    what: "a block of every address",
    why: "`0.0.0.0/0` takes every IPv4 address and no IPv6 address, `::/0` the other way round: as an ALLOW it opens, as a \
          DENY it does not close.",
    instead: "leave the field out to take everybody, or name the blocks that are meant",
    wrong: policy!("ALLOW", r#"  - from: [{source: {remoteIpBlocks: ["0.0.0.0/0"]}}]"#),
    right: policy!("ALLOW", r#"  - from: [{source: {remoteIpBlocks: ["203.0.113.0/24"]}}]"#),
};

static BEHIND_PROXY: Code = Code {
    name: "ip-blocks-behind-proxy",
    severity: Severity::Warning,
    what: "`ipBlocks` for a workload behind a gateway",
    why: "`ipBlocks` and `source.ip` are the address of the direct peer, which is the gateway in front of a workload. The \
          client's address is `remoteIpBlocks`. (At API Gateway the second hop has no direct peer at all. The gateway's own \
          direct peer there is the client.)",
    instead: "write `remoteIpBlocks`, or `remote.ip` under `when`",
    wrong: policy!("DENY", r#"  - from: [{source: {ipBlocks: ["203.0.113.0/24"]}}]"#),
    right: policy!("DENY", r#"  - from: [{source: {remoteIpBlocks: ["203.0.113.0/24"]}}]"#),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for policy in &context.policies {
        let behind = policy.workloads.iter().find(|index| context.is_destination(**index));
        for field in &policy.fields {
            let is_direct = field.attribute == Attribute::IpBlock;
            if !matches!(field.attribute, Attribute::IpBlock | Attribute::RemoteIpBlock | Attribute::DestinationIp) {
                continue;
            }
            if let Some(workload) = behind.filter(|_| is_direct).and_then(|index| context.workloads.get(*index)) {
                let message = format!("the direct peer of {} is a proxy, not the client", workload.name);
                let instead = match field.part {
                    super::fields::Part::Condition => "write `remote.ip`",
                    _ if field.negative => "write `notRemoteIpBlocks`",
                    _ => "write `remoteIpBlocks`",
                };
                findings.add(&BEHIND_PROXY, policy.at(field.path.clone()), message, instead);
            }
            for (path, value) in field.each() {
                let Ok(block) = value.parse::<IpBlock>() else { continue };
                let place = policy.at(path);
                if block.prefix == 0 {
                    let family = if block.address.is_ipv4() { "IPv4" } else { "IPv6" };
                    let message = format!("`{value}` is every {family} address, and none of the other family");
                    findings.add(
                        &EVERY_ADDRESS,
                        place,
                        message,
                        "leave the field out, or name the blocks that are meant",
                    );
                } else if let Some(first) = first(&block).filter(|first| *first != block) {
                    let message = format!("`{value}` is `{first}`: bits behind the prefix do not count");
                    findings.add(&HOST_BITS, place, message, format!("write `{first}`, or the prefix that was meant"));
                }
            }
        }
    }
}

/// The block with its first address.
fn first(block: &IpBlock) -> Option<IpBlock> {
    let address = match block.address {
        std::net::IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(block.prefix.into())?).unwrap_or(0);
            std::net::Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        std::net::IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(block.prefix.into())?).unwrap_or(0);
            std::net::Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    };
    Some(IpBlock { address, prefix: block.prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_a_block() {
        for (block, expected) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(first(&block.parse().unwrap()), Some(expected.parse().unwrap()), "{block}");
        }
    }
}
