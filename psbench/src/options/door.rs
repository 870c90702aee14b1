//! Where workers that connect find the dispatcher.

use std::net::{IpAddr, Ipv4Addr};

use psbench_connectors::scistream::address_towards;
use psbench_executors::pilot::{Advertised, DoorOptions};
use scistream::dataserver::Target;

use super::scistream::PRODUCER;
use super::{OptionError, StreamScalingOptions, server};
use crate::brokers::PathPlan;

const THROUGH: &str = "--worker-via-scistream";

impl StreamScalingOptions {
    pub(super) fn door(&mut self, through: Option<&PathPlan>) -> Result<DoorOptions, OptionError> {
        let listen = match (self.worker_listen, through.and_then(|plan| plan.gateways.as_ref())) {
            (Some(listen), _) => listen,
            (None, Some(gateways)) => listen_for(&gateways.producer.address)?,
            (None, None) => Ipv4Addr::LOCALHOST.into(),
        };
        self.worker_listen = Some(listen);
        let advertise = match &self.worker_connect {
            Some(text) => Some(advertised(text)?),
            None => this_host(listen).map(|host| Advertised { host, port: None }),
        };
        let tls = *self.worker_tls.get_or_insert(false);
        Ok(DoorOptions { listen, port: self.worker_port.unwrap_or(0), advertise, tls })
    }

    /// What leads workers to the door, where they are at another site.
    pub(super) fn worker_path(&mut self) -> Result<Option<PathPlan>, OptionError> {
        if !*self.worker_via_scistream.get_or_insert(false) {
            return Ok(None);
        }
        let mut plan = self.path_plan(THROUGH)?;
        // A connection that says nothing is a stranger to the dispatcher, of whom it bears few, and each for a short time.
        plan.wishes.preconnect = Some(0);
        if plan.gateways.is_none() {
            // A private pair is on this host, where workers need none.
            return Err(OptionError::Missing { option: PRODUCER, needed_by: THROUGH });
        }
        Ok(Some(plan))
    }
}

/// This host's address for a gateway that is to connect to it.
fn listen_for(gateway: &Target) -> Result<IpAddr, OptionError> {
    address_towards(gateway).map_err(|error| {
        let problem = format!("no address of this host leads there ({error}); name one by --worker-listen");
        OptionError::invalid(PRODUCER, gateway, problem)
    })
}

/// A host, or one with a port.
fn advertised(text: &str) -> Result<Advertised, OptionError> {
    const OPTION: &str = "--worker-connect";
    if text.contains(':') && !text.ends_with(']') && text.parse::<IpAddr>().is_err() {
        let (host, port) = server::parse(OPTION, text)?;
        return Ok(Advertised { host, port: Some(port) });
    }
    Ok(Advertised { host: server::host(OPTION, text)?, port: None })
}

/// This host's name, where it listens at all of its addresses.
fn this_host(listen: IpAddr) -> Option<String> {
    listen.is_unspecified().then(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{EnginePlan, GeneratorKind};

    fn plan(options: StreamScalingOptions) -> Result<EnginePlan, String> {
        let connector = options.ps_connector.clone().or(Some("redis".into()));
        let executor = options.executor.clone().or(Some("mpi".into()));
        let options = StreamScalingOptions { ps_connector: connector, executor, ..options };
        let planned = options.plan().map_err(|error| error.to_string())?;
        assert_eq!(planned.notes, [""; 0]);
        Ok(planned.plan.settings.engine.clone().unwrap())
    }

    fn through() -> StreamScalingOptions {
        StreamScalingOptions {
            worker_via_scistream: Some(true),
            scistream_producer_s2cs: Some("127.0.0.1:5000".into()),
            scistream_consumer_s2cs: Some("gw2.example.org:5000".into()),
            scistream_insecure: Some(true),
            ..StreamScalingOptions::default()
        }
    }

    #[test]
    fn workers_may_be_told_of_another_port() {
        let told = |told: &str| {
            let options = StreamScalingOptions { worker_connect: Some(told.into()), ..Default::default() };
            plan(options).map(|engine| engine.door.advertise.unwrap())
        };
        for (text, host, port) in [
            ("head", "head", None),
            ("::1", "::1", None),
            ("gw:5100", "gw", Some(5100)),
            ("[::1]:7", "::1", Some(7)),
            ("[::1]", "::1", None),
        ] {
            assert_eq!(told(text), Ok(Advertised { host: host.into(), port }), "{text}");
        }
        for wrong in ["", "gw:", "gw:0", "me@gw", "http://gw", "a b"] {
            assert!(told(wrong).unwrap_err().starts_with(&format!("--worker-connect {wrong}: ")), "{wrong}");
        }
    }

    #[test]
    fn gateways_may_lead_workers_there() {
        assert_eq!(plan(StreamScalingOptions::default()).unwrap().through, None);
        // Workers of other hosts, and a dispatcher that only the gateway beside it reaches.
        let ssh = StreamScalingOptions {
            executor: Some("ssh".into()),
            hosts: vec!["n1".into()],
            stream: Some("redis".into()),
            generator: Some(GeneratorKind::Local),
            ..through()
        };
        let engine = plan(ssh).unwrap();
        assert_eq!(engine.door.listen, Ipv4Addr::LOCALHOST);
        let gateways = engine.through.unwrap().gateways.unwrap();
        assert_eq!(gateways.consumer.address.to_string(), "gw2.example.org:5000");
        let listen = Some(Ipv4Addr::UNSPECIFIED.into());
        let engine = plan(StreamScalingOptions { worker_listen: listen, ..through() }).unwrap();
        assert_eq!(Some(engine.door.listen), listen);
        assert_eq!(engine.through.unwrap().wishes.preconnect, Some(0), "strangers");
    }

    #[test]
    fn without_gateways_workers_are_not_led_anywhere() {
        let no_gateways = StreamScalingOptions { worker_via_scistream: Some(true), ..Default::default() };
        assert_eq!(plan(no_gateways), Err("--worker-via-scistream needs --scistream-producer-s2cs".into()));
        let sites = vec!["anl=gw3:5000".to_owned(), "ornl=gw4:5000".to_owned()];
        let several = StreamScalingOptions { scistream_consumer_s2cs: None, scistream_site: sites, ..through() };
        assert_eq!(plan(several), Err("--worker-via-scistream needs --scistream-consumer-s2cs".into()));
    }
}
