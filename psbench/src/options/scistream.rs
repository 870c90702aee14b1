//! Gateways of SciStream: which, by which right, and what is asked of them.

use std::env;
use std::path::Path;
use std::sync::LazyLock;

use psbench_connectors::ConnectorSpec;
use psbench_connectors::scistream::{Consumer, Crossing, Reach, Route};
use scistream::client::{ClientOptions, GatewayAccess, Gateways, Wishes};
use scistream::dataserver::{DataServerType, MOST_AHEAD, MOST_STRIPES, Transport};
use uuid::Uuid;

use super::access::data_server_type;
use super::checks::within;
use super::{AccessOptions, Named, OptionError, StreamScalingOptions, TOKEN, Trusted, read_secret};
use crate::brokers::PathPlan;
use crate::units::Size;

pub(super) const PRODUCER: &str = "--scistream-producer-s2cs";
const CONSUMER: &str = "--scistream-consumer-s2cs";
const SITE: &str = "--scistream-site";
const LOCAL: &str = "--scistream-local";
const INSECURE: &str = "--scistream-insecure";

/// One for all of this process, so that whatever is asked for twice is one connector.
static SALT: LazyLock<Uuid> = LazyLock::new(Uuid::new_v4);

/// Gateways that options name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedGateways {
    /// At the generators' side.
    pub(crate) producer: GatewayAccess,
    /// At the workers' sides, at least one.
    pub(crate) consumers: Vec<Consumer>,
}

/// What is asked of gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathOptions {
    /// Ports, at each.
    pub(crate) num_conn: u16,
    /// In kb/s; 0: none in particular.
    pub(crate) rate: u32,
    /// What psbench's control servers can be asked for beyond that.
    pub(crate) wishes: Wishes,
}

impl StreamScalingOptions {
    pub(super) fn scistream(&mut self, sizes: &[Size], notes: &mut Vec<String>) -> Result<ConnectorSpec, OptionError> {
        let PathOptions { num_conn, rate, wishes } = self.path_options()?;
        let gateways = self.gateways()?;
        let listen = self.tcp_address("scistream", notes)?;
        let limit = self.memory_limit(sizes)?;
        let route = Route { num_conn, rate, wishes, listen, limit, salt: *SALT };
        Ok(ConnectorSpec::Scistream(match gateways {
            None => Reach::Private(Box::new(route)),
            Some(NamedGateways { producer, consumers }) => {
                Reach::Through(Box::new(Crossing { route, private: false, producer, consumers }))
            }
        }))
    }

    /// Paths of one connection's, which are no connector's, for what is asked for by `option`.
    pub(super) fn path_plan(&mut self, option: &'static str) -> Result<PathPlan, OptionError> {
        let PathOptions { rate, wishes, .. } = self.path_options()?;
        let gateways = match self.gateways()? {
            None => None,
            Some(NamedGateways { producer, consumers }) => {
                let here = consumers.into_iter().find(|consumer| consumer.site.is_empty());
                let here = here.ok_or(OptionError::Missing { option: CONSUMER, needed_by: option })?;
                Some(Gateways { producer, consumer: here.gateway })
            }
        };
        Ok(PathPlan { gateways, rate, wishes })
    }

    pub(super) fn path_options(&mut self) -> Result<PathOptions, OptionError> {
        const TYPE: &str = "--scistream-type";
        let kind: Option<DataServerType> = match &self.scistream_type {
            Some(name) => {
                Some(data_server_type(name).map_err(|error| OptionError::invalid(TYPE, name, error.to_string()))?)
            }
            None => None,
        };
        let check = |option, value: Option<u32>, range| value.map(|value| within(option, value, range)).transpose();
        let preconnect = check("--scistream-preconnect", self.scistream_preconnect, 0..=MOST_AHEAD)?;
        let stripes = check("--scistream-stripes", self.scistream_stripes, 1..=MOST_STRIPES)?;
        Ok(PathOptions {
            num_conn: within("--scistream-num-conn", *self.scistream_num_conn.get_or_insert(1), 1..=u16::MAX)?,
            rate: self.scistream_rate.unwrap_or_default(),
            wishes: Wishes { kind, key: None, transport: Transport::Tcp, preconnect, stripes, attended: None },
        })
    }

    /// Which gateways; `None`: a private pair.
    pub(super) fn gateways(&mut self) -> Result<Option<NamedGateways>, OptionError> {
        let first = self.named_gateway().map(|(option, value)| (option, value.to_owned()));
        let Some((option, value)) = first else {
            if *self.scistream_local.get_or_insert(true) {
                return Ok(None);
            }
            return Err(OptionError::Missing { option: PRODUCER, needed_by: "--scistream-local=false" });
        };
        if self.scistream_local == Some(true) {
            let problem = format!("{LOCAL} starts gateways of its own; leave one of the two out");
            return Err(OptionError::invalid(option, &value, problem));
        }
        let Some(producer) = &self.scistream_producer_s2cs else {
            return Err(OptionError::Missing { option: PRODUCER, needed_by: option });
        };
        let producer = self.access_to(&Side {
            s2cs: Named { option: PRODUCER, value: producer },
            certificate: self.scistream_producer_cert.as_deref(),
            token_file: Named {
                option: "--scistream-producer-token-file",
                value: self.scistream_producer_token_file.as_deref(),
            },
        })?;
        let mut consumers = Vec::new();
        if let Some(consumer) = &self.scistream_consumer_s2cs {
            let gateway = self.access_to(&self.consumer(Named { option: CONSUMER, value: consumer }))?;
            consumers.push(Consumer { site: String::new(), gateway });
        }
        for text in &self.scistream_site {
            let (site, s2cs) = site(text)?;
            if consumers.iter().any(|consumer| consumer.site == site) {
                return Err(OptionError::invalid(SITE, text, "this site has a gateway already"));
            }
            let gateway = self.access_to(&self.consumer(Named { option: SITE, value: s2cs }))?;
            consumers.push(Consumer { site: site.to_owned(), gateway });
        }
        if consumers.is_empty() {
            return Err(OptionError::Missing { option: CONSUMER, needed_by: PRODUCER });
        }
        Ok(Some(NamedGateways { producer, consumers }))
    }

    /// The first option that names a gateway.
    fn named_gateway(&self) -> Option<(&'static str, &str)> {
        let named = [
            (PRODUCER, self.scistream_producer_s2cs.as_deref()),
            (CONSUMER, self.scistream_consumer_s2cs.as_deref()),
            (SITE, self.scistream_site.first().map(String::as_str)),
        ];
        named.into_iter().find_map(|(option, value)| Some((option, value?)))
    }

    fn consumer<'a>(&'a self, s2cs: Named<&'a str>) -> Side<'a> {
        Side {
            s2cs,
            certificate: self.scistream_consumer_cert.as_deref(),
            token_file: Named {
                option: "--scistream-consumer-token-file",
                value: self.scistream_consumer_token_file.as_deref(),
            },
        }
    }

    fn access_to(&self, side: &Side<'_>) -> Result<GatewayAccess, OptionError> {
        let token = match (side.token_file, &self.scistream_token_file) {
            (Named { option, value: Some(file) }, _) => Some(read_secret(option, file)?),
            (_, Some(file)) => Some(read_secret("--scistream-token-file", file)?),
            (_, None) => env::var(TOKEN).ok(),
        };
        AccessOptions {
            s2cs: side.s2cs,
            trusted: self.trusted(side)?,
            client: self.client_pair()?,
            token,
            time_limit: ClientOptions::default().time_limit,
        }
        .access()
    }

    fn trusted<'a>(&'a self, side: &Side<'a>) -> Result<Trusted<'a>, OptionError> {
        let certificate = side.certificate.or(self.scistream_server_cert.as_deref());
        let given = [
            certificate.map(|file| (Trusted::Pinned(file), "a certificate")),
            self.scistream_system_roots.filter(|yes| *yes).map(|_| (Trusted::SystemRoots, "--scistream-system-roots")),
            self.scistream_insecure.filter(|yes| *yes).map(|_| (Trusted::Anybody(INSECURE), INSECURE)),
        ];
        let given: Vec<_> = given.into_iter().flatten().collect();
        match given[..] {
            [(trusted, _)] => Ok(trusted),
            // One side's own goes before what is said of both.
            [(trusted, _), (Trusted::SystemRoots, _)] if side.certificate.is_some() => Ok(trusted),
            [] => {
                let problem = "which certificate has it? Name it (--scistream-server-cert FILE), or take --scistream-system-roots if an \
                               authority signed it, or --scistream-insecure to ask without TLS";
                Err(OptionError::invalid(side.s2cs.option, &side.s2cs.value, problem))
            }
            [(_, one), (_, other), ..] => {
                let problem = format!("{one} and {other} don't go together; leave one out");
                Err(OptionError::invalid(side.s2cs.option, &side.s2cs.value, problem))
            }
        }
    }

    fn client_pair(&self) -> Result<Option<(&Path, &Path)>, OptionError> {
        const CERTIFICATE: &str = "--scistream-client-cert";
        const KEY: &str = "--scistream-client-key";
        match (&self.scistream_client_cert, &self.scistream_client_key) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(OptionError::Missing { option: KEY, needed_by: CERTIFICATE }),
            (None, Some(_)) => Err(OptionError::Missing { option: CERTIFICATE, needed_by: KEY }),
        }
    }
}

/// One control server, with what is its own.
struct Side<'a> {
    s2cs: Named<&'a str>,
    certificate: Option<&'a Path>,
    token_file: Named<Option<&'a Path>>,
}

/// A site's name and its control server.
fn site(text: &str) -> Result<(&str, &str), OptionError> {
    match text.split_once('=') {
        Some((name, s2cs)) if !name.is_empty() => Ok((name, s2cs)),
        _ => Err(OptionError::invalid(SITE, &text, "write NAME=HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn options() -> StreamScalingOptions {
        StreamScalingOptions { ps_connector: Some("scistream".into()), ..StreamScalingOptions::default() }
    }

    fn named() -> StreamScalingOptions {
        StreamScalingOptions {
            scistream_producer_s2cs: Some("127.0.0.1:5000".into()),
            scistream_consumer_s2cs: Some("gw2.example.org:5000".into()),
            scistream_insecure: Some(true),
            ..options()
        }
    }

    fn refused(options: &StreamScalingOptions) -> String {
        let error = options.plan().unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
    }

    fn crossing(options: &StreamScalingOptions) -> Crossing {
        match &options.plan().unwrap().plan.settings.connector {
            ConnectorSpec::Scistream(Reach::Through(crossing)) => (**crossing).clone(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn without_gateways_there_is_a_private_pair() {
        let planned = options().plan().unwrap();
        let connector = &planned.plan.settings.connector;
        assert!(matches!(connector, ConnectorSpec::Scistream(Reach::Private(_))), "{connector}");
        assert_eq!((planned.options.scistream_local, planned.options.scistream_num_conn), (Some(true), Some(1)));
        assert_eq!(planned.options.plan().unwrap().options, planned.options);
        assert_eq!(planned.notes, [""; 0]);
    }

    #[test]
    fn sites_have_gateways_of_their_own() {
        let sites = vec!["anl=a.example:5000".to_owned(), "ornl=b.example:5000".to_owned()];
        let options = StreamScalingOptions { scistream_site: sites, scistream_type: Some("tls".into()), ..named() };
        let crossing = crossing(&options);
        assert_eq!(crossing.route.wishes.kind, Some(DataServerType::Tls));
        let consumers: Vec<_> = crossing.consumers.iter().map(ToString::to_string).collect();
        assert_eq!(consumers, ["gw2.example.org:5000", "anl=a.example:5000", "ornl=b.example:5000"]);
    }

    #[test]
    fn each_side_may_have_a_certificate_and_a_token_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            Some(path)
        };
        let options = StreamScalingOptions {
            scistream_insecure: None,
            scistream_server_cert: file("both.crt", "both"),
            scistream_consumer_cert: file("consumer.crt", "consumer"),
            scistream_token_file: file("both", "for-both\n"),
            scistream_producer_token_file: file("producer", "for-the-producer\n"),
            ..named()
        };
        let crossing = crossing(&options);
        let pinned = |access: &GatewayAccess| access.tls.clone().unwrap().pinned.unwrap().path().to_owned();
        let (producer, consumer) = (crossing.producer, &crossing.consumers[0].gateway);
        assert!(pinned(&producer).ends_with("both.crt") && pinned(consumer).ends_with("consumer.crt"));
        assert_eq!(producer.token.as_deref(), Some("for-the-producer"));
        assert_eq!(consumer.token.as_deref(), Some("for-both"));
    }

    #[test]
    fn mistakes_are_one_line_each() {
        let sites = |site: &str| StreamScalingOptions { scistream_site: vec![site.into(); 2], ..named() };
        for (options, problem) in [
            (
                StreamScalingOptions { scistream_local: Some(true), ..named() },
                "--scistream-producer-s2cs 127.0.0.1:5000: --scistream-local starts gateways of its own",
            ),
            (
                StreamScalingOptions { scistream_consumer_s2cs: None, ..named() },
                "--scistream-producer-s2cs needs --scistream-consumer-s2cs",
            ),
            (
                StreamScalingOptions { scistream_producer_s2cs: None, ..named() },
                "--scistream-consumer-s2cs needs --scistream-producer-s2cs",
            ),
            (StreamScalingOptions { scistream_insecure: None, ..named() }, "which certificate has it?"),
            (
                StreamScalingOptions { scistream_system_roots: Some(true), ..named() },
                "--scistream-system-roots and --scistream-insecure don't go together",
            ),
            (
                StreamScalingOptions { scistream_client_cert: Some("c".into()), ..named() },
                "--scistream-client-cert needs --scistream-client-key",
            ),
            (
                StreamScalingOptions {
                    scistream_insecure: None,
                    scistream_server_cert: Some("none.crt".into()),
                    ..named()
                },
                "none.crt: No such file",
            ),
            (sites("anl"), "--scistream-site anl: write NAME=HOST:PORT"),
            (sites("anl=a.example:5000"), "has a gateway already"),
            (sites("anl=a.example"), "--scistream-site a.example: not a control server's address"),
            (StreamScalingOptions { scistream_type: Some("squid".into()), ..named() }, "--scistream-type squid"),
            (StreamScalingOptions { scistream_num_conn: Some(0), ..named() }, "--scistream-num-conn 0: write a number"),
            (StreamScalingOptions { scistream_stripes: Some(65), ..named() }, "--scistream-stripes 65: write a number"),
            (
                StreamScalingOptions { scistream_local: Some(false), ..options() },
                "--scistream-local=false needs --scistream-producer-s2cs",
            ),
        ] {
            let error = refused(&options);
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn what_only_the_connector_keeps_to_is_noted_beside_other_paths() {
        let beside = |broker: bool| StreamScalingOptions {
            stream: Some("redis".into()),
            stream_via_scistream: Some(broker),
            scistream_num_conn: Some(4),
            scistream_site: vec!["anl=gw3.example.org:5000".into()],
            ..named()
        };
        let notes = |options: StreamScalingOptions| options.plan().unwrap().notes;
        assert_eq!(
            notes(beside(true)),
            [
                "--scistream-num-conn is for the paths of --ps-connector scistream; that of --stream-via-scistream has one port for all its \
                 connections",
                "--scistream-site is for the paths of --ps-connector scistream; that of --stream-via-scistream goes by \
                 --scistream-consumer-s2cs",
            ]
        );
        assert_eq!(notes(beside(false)), [""; 0]);
        let no_connector = notes(StreamScalingOptions { ps_connector: Some("peer".into()), ..beside(true) });
        assert_eq!(no_connector.len(), 2, "{no_connector:?}");
        assert!(no_connector[0].contains("has no effect with --ps-connector peer"), "{no_connector:?}");
    }

    #[test]
    fn what_has_no_effect_is_noted() {
        let options = StreamScalingOptions { ps_connector: Some("peer".into()), ..named() };
        let notes = options.plan().unwrap().notes.join("\n");
        assert!(notes.contains("--scistream-producer-s2cs has no effect with --ps-connector peer"), "{notes}");
    }
}
