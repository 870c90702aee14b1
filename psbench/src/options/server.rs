//! Addresses of servers.

use std::net::{IpAddr, Ipv6Addr};

use if_addrs::get_if_addrs;

use super::OptionError;

/// `host:port`, with an IPv6 address in brackets, as the host and the port.
pub(super) fn parse(option: &'static str, text: &str) -> Result<(String, u16), OptionError> {
    let fail = |problem: &str| {
        let example = "write host:port, for example localhost:6379 or [::1]:6379";
        OptionError::invalid(option, &text, format!("{problem}; {example}"))
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(|| fail("no port"))?;
    let host = match host.strip_prefix('[') {
        None if host.contains(':') => return Err(fail("not a host")),
        _ => bare_host(host).map_err(fail)?,
    };
    match port.parse() {
        Ok(0) | Err(_) => Err(fail("not a port from 1 to 65535")),
        Ok(port) => Ok((host.to_owned(), port)),
    }
}

/// A host, as its name or an address, in brackets or not.
pub(super) fn host(option: &'static str, text: &str) -> Result<String, OptionError> {
    let fail = |problem| OptionError::invalid(option, &text, format!("{problem}; write a name or an address"));
    match bare_host(text).map_err(fail)? {
        host if host.contains(':') && host.parse::<Ipv6Addr>().is_err() => Err(fail("not a host")),
        host => Ok(host.to_owned()),
    }
}

/// An address on the command line, in brackets or not.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let bare = bare_host(text).unwrap_or(text);
    bare.parse().map_err(|_| "not an address: write for example 127.0.0.1, 0.0.0.0 or ::1".to_owned())
}

/// Without brackets; what is in them is an address.
fn bare_host(text: &str) -> Result<&str, &'static str> {
    let host = match text.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']').ok_or("no closing bracket")?,
        None => text,
    };
    if host.is_empty() {
        return Err("no host");
    }
    let is_bracketed = host.len() < text.len();
    if (is_bracketed && host.parse::<Ipv6Addr>().is_err())
        || host.contains(['/', '@', '[', ']'])
        || host.contains(char::is_whitespace)
    {
        return Err("not a host");
    }
    Ok(host)
}

/// As [`parse`], at this port where `text` has none.
pub(super) fn parse_at(option: &'static str, text: &str, port: u16) -> Result<(String, u16), OptionError> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text.to_owned(), port));
    }
    if text.ends_with(']') || !text.contains(':') {
        parse(option, &format!("{text}:{port}"))
    } else {
        parse(option, text)
    }
}

/// An address of this host's network interface `name`, IPv4 where it has one.
pub(super) fn of_interface(option: &'static str, name: &str) -> Result<String, OptionError> {
    let invalid = |problem: String| OptionError::invalid(option, &name, problem);
    let interfaces =
        get_if_addrs().map_err(|error| invalid(format!("this host does not list its interfaces: {error}")))?;
    let addresses = interfaces.iter().filter(|interface| interface.name == name).map(if_addrs::Interface::ip);
    match addresses.min_by_key(IpAddr::is_ipv6) {
        Some(address) => Ok(address.to_string()),
        None => {
            let mut names: Vec<_> = interfaces.iter().map(|interface| interface.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            Err(invalid(format!("no interface of this host with an address; there are: {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_and_both_kinds_of_addresses() {
        for (text, host, port) in
            [("localhost:6379", "localhost", 6379), ("10.0.0.1:1", "10.0.0.1", 1), ("[::1]:65535", "::1", 65535)]
        {
            assert_eq!(parse("--stream-servers", text).unwrap(), (host.to_owned(), port));
        }
    }

    #[test]
    fn a_port_may_be_left_out_where_there_is_a_usual_one() {
        for (text, host, port) in
            [("h", "h", 7), ("h:1", "h", 1), ("[::1]", "::1", 7), ("::1", "::1", 7), ("[::1]:2", "::1", 2)]
        {
            assert_eq!(parse_at("--ps-host", text, 7).unwrap(), (host.to_owned(), port));
        }
        for text in ["", "h:", "h:x", "[::1", "a@b", "a/b", "[::1]x"] {
            parse_at("--ps-host", text, 7).unwrap_err();
        }
    }

    #[test]
    fn hosts_and_addresses_have_brackets_or_not() {
        for (text, bare) in [("node7", "node7"), ("10.0.0.1", "10.0.0.1"), ("::1", "::1"), ("[::1]", "::1")] {
            assert_eq!(host("--ps-address", text).unwrap(), bare);
        }
        for text in ["", " ", "a b", "node7:80", "tcp://node7", "[node7]", "[::1", "u@node7"] {
            let error = host("--ps-address", text).unwrap_err().to_string();
            assert!(error.contains("write a name or an address"), "{error}");
        }
        assert_eq!(address("[::1]"), Ok(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        assert_eq!(address("0.0.0.0").unwrap().to_string(), "0.0.0.0");
        assert!(address("node7").unwrap_err().contains("write for example"));
    }

    #[test]
    fn an_interface_stands_for_its_address() {
        assert_eq!(of_interface("--ps-interface", "lo").unwrap(), "127.0.0.1");
        let error = of_interface("--ps-interface", "hsn9").unwrap_err().to_string();
        assert!(error.starts_with("--ps-interface hsn9: no interface") && error.contains("lo"), "{error}");
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, problem) in [
            ("localhost", "no port"),
            ("localhost:0", "not a port"),
            ("localhost:65536", "not a port"),
            ("localhost:redis", "not a port"),
            (":6379", "no host"),
            ("[::1:6379", "no closing bracket"),
            ("::1:6379", "not a host"),
            ("redis://localhost:6379", "not a host"),
            ("a host:6379", "not a host"),
            ("[localhost]:6379", "not a host"),
        ] {
            let error = parse("--stream-servers", text).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
