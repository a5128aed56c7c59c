//! What the node brings along: configuration, data directory, models, engines, certificates, ports, hub.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use obsidian_model::Model;
use obsidian_sandbox::{EngineOptions, Engines};
use obsidian_wire::{ClientTls, DevelopmentCa, HubLink, LinkOptions};

use super::{DoctorArguments, Finding, density};
use crate::config::{self, CoresSection, EdgeFile, FunctionsSection, HubFile, Role, RoleFile};
use crate::data_dir::DataDir;
use crate::model::locate::{self, Located};
use crate::model::show::size;
use crate::shipped;

/// Below this the next model or compiled guest may not fit.
const LITTLE_SPACE_BYTES: u64 = 1 << 30;
/// Below this a node cannot write what it must.
const LEAST_SPACE_BYTES: u64 = 64 << 20;
const DAY_SECONDS: i64 = 24 * 60 * 60;
/// From when on an expiry is worth a warning.
const SOON_DAYS: i64 = 30;
/// How long the hub is waited for.
const HUB_PATIENCE: Duration = Duration::from_secs(5);

/// What is to be run where.
#[derive(Debug)]
struct Plan {
    data_dir: PathBuf,
    /// What is listened on, and what for.
    listen: Vec<(&'static str, SocketAddr)>,
    /// Models beside the shipped ones, and what for.
    models: Vec<(&'static str, PathBuf)>,
    /// Address of the hub and this POP's name.
    hub: Option<(String, String)>,
    authority: PathBuf,
    /// Whether guests run here.
    is_pop: bool,
    /// Which threads stay on which cores.
    cores: CoresSection,
    function_cores: Vec<usize>,
}

/// All findings about the node, in the order in which they matter.
pub(super) async fn check(arguments: &DoctorArguments) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let Some(plan) = plan(arguments, &mut findings)? else { return Ok(findings) };
    if plan.is_pop {
        findings.extend(density::judge(&density::Facts::read(), arguments.sandboxes));
        findings.push(pinning(&plan.cores, &plan.function_cores));
    }
    let usable = data_directory(&plan.data_dir, &mut findings);
    if usable {
        let data = DataDir::open(&plan.data_dir)?;
        models(&plan, &data, &mut findings);
        if plan.is_pop {
            findings.push(engines(&data));
        }
    }
    certificates(&plan.authority, &mut findings);
    findings.extend(plan.listen.iter().map(|(what, address)| port(what, *address)));
    if let Some((address, name)) = &plan.hub {
        findings.push(hub(address, name, &plan.authority).await);
    }
    Ok(findings)
}

fn plan(arguments: &DoctorArguments, findings: &mut Vec<Finding>) -> Result<Option<Plan>> {
    let Some(path) = &arguments.config else {
        let data_dir = match &arguments.data_dir {
            Some(folder) => folder.clone(),
            None => DataDir::default_path()?,
        };
        return Ok(Some(Plan {
            authority: data_dir.join("authority"),
            data_dir,
            listen: vec![("clients", config::DEFAULT_LISTEN.parse()?)],
            models: Vec::new(),
            hub: None,
            is_pop: true,
            cores: CoresSection::default(),
            function_cores: Vec::new(),
        }));
    };
    let edge = config::read::<EdgeFile>(path);
    let hub = config::read::<HubFile>(path);
    let role = arguments.role.unwrap_or(if edge.is_err() && hub.is_ok() { Role::Hub } else { Role::Edge });
    Ok(match role {
        Role::Edge => configured(edge, path, findings).map(edge_plan),
        Role::Hub => configured(hub, path, findings).map(hub_plan),
    })
}

/// Where threads run. Cores that are not there are the configuration's problem.
fn pinning(cores: &CoresSection, functions: &[usize]) -> Finding {
    let check = "pinned cores";
    let named = cores.roles(functions).into_iter().filter(|(_, cores)| !cores.is_empty());
    let shown: Vec<String> = named.map(|(role, cores)| format!("{role} = {}", config::list(cores))).collect();
    match cores.shared(functions) {
        _ if shown.is_empty() => Finding::good(check, "none; the scheduler decides"),
        Some(core) => Finding::warning(
            check,
            format!("{}; core {core} has two roles", shown.join(", ")),
            "work of one holds up the other there; give each role cores of its own",
        ),
        None => Finding::good(check, shown.join(", ")),
    }
}

fn configured<T: RoleFile>(read: Result<T>, path: &Path, findings: &mut Vec<Finding>) -> Option<T> {
    let check = "configuration";
    let advice = format!(
        "`obsidian config reference` explains every key; `obsidian config check {} {}`",
        T::ROLE,
        path.display()
    );
    match read {
        Ok(file) => {
            let problems = file.problems();
            if problems.is_empty() {
                findings.push(Finding::good(check, format!("{} is valid for the {} role", path.display(), T::ROLE)));
            }
            findings.extend(problems.into_iter().map(|problem| Finding::failure(check, problem, advice.clone())));
            Some(file)
        }
        Err(error) => {
            findings.push(Finding::failure(check, format!("{error:#}").replace('\n', " "), advice));
            None
        }
    }
}

fn edge_plan(file: EdgeFile) -> Plan {
    let own_authority = file.data_dir.join("authority");
    let authority = file.hub.as_ref().and_then(|hub| hub.authority_dir.clone()).unwrap_or(own_authority);
    let administration = file.functions.as_ref().and_then(FunctionsSection::admin_listen);
    let function_cores = file.functions.as_ref().map_or_else(Vec::new, |section| section.cores().to_vec());
    let draft = file.draft_model.into_iter().map(|model| ("draft model", model));
    Plan {
        authority,
        listen: [("clients", file.listen)].into_iter().chain(administration.map(|at| ("administration", at))).collect(),
        models: draft.chain(file.models.serve.into_iter().map(|model| ("model", model))).collect(),
        hub: file.hub.map(|hub| (hub.address, file.name)),
        data_dir: file.data_dir,
        is_pop: true,
        cores: file.cores,
        function_cores,
    }
}

fn hub_plan(file: HubFile) -> Plan {
    let mut listen = vec![("POPs", file.listen)];
    listen.extend(file.metrics_listen.map(|address| ("metrics", address)));
    Plan {
        authority: file.authority_dir.unwrap_or_else(|| file.data_dir.join("authority")),
        listen,
        models: file.target_model.into_iter().map(|model| ("target model", model)).collect(),
        hub: None,
        data_dir: file.data_dir,
        is_pop: false,
        cores: CoresSection::default(),
        function_cores: Vec::new(),
    }
}

/// True if the directory is there and can be worked in.
fn data_directory(path: &Path, findings: &mut Vec<Finding>) -> bool {
    let check = "data directory";
    let shown = path.display();
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            findings.push(Finding::good(check, format!("{shown} is not there yet; the node makes it")));
            return false;
        }
        Err(error) => {
            findings.push(Finding::failure(check, format!("{shown}: {error}"), "let the node's user reach it"));
            return false;
        }
    };
    if !metadata.is_dir() {
        findings.push(Finding::failure(
            check,
            format!("{shown} is no directory"),
            "name another with --data-dir or data_dir",
        ));
        return false;
    }
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        let found = format!("{shown} belongs to user {owner}, and this is user {user}");
        findings.push(Finding::failure(check, found, "run doctor and node as the same user, or change the owner"));
        return false;
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let found = format!("{shown} can be entered by others (mode {mode:o})");
        findings.push(Finding::warning(check, found, format!("keys lie in it: chmod 700 {shown}")));
    } else {
        findings.push(Finding::good(check, format!("{shown}, private")));
    }
    findings.push(space(path));
    match trial(path) {
        Ok(()) => findings.push(Finding::good("file system", "files are written, locked and mapped")),
        Err(error) => {
            let advice = "models are mapped from files here: use a local, writable file system";
            findings.push(Finding::failure("file system", format!("{shown}: {error:#}"), advice));
            return false;
        }
    }
    findings.extend(from_the_future(path));
    true
}

fn space(path: &Path) -> Finding {
    let check = "free space";
    let free = match rustix::fs::statvfs(path) {
        Ok(counts) => counts.f_bavail.saturating_mul(counts.f_frsize),
        Err(error) => return Finding::warning(check, error.to_string(), "make sure that 1 GiB is free"),
    };
    if free < LEAST_SPACE_BYTES {
        return Finding::failure(check, size(free), "a node needs 64 MiB, and room for its models; make room");
    }
    if free < LITTLE_SPACE_BYTES {
        return Finding::warning(check, size(free), "enough for the shipped models; make room before adding others");
    }
    Finding::good(check, size(free))
}

/// Writes, locks and maps a small model, and removes it again.
fn trial(folder: &Path) -> Result<()> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let work = || -> Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(shipped::DRAFT.bytes())?;
        file.sync_all()?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Model::open(&path)?;
        Ok(())
    };
    let worked = work();
    let removed = std::fs::remove_file(&path);
    worked.and_then(|()| Ok(removed?))
}

/// A clock that was set back shows in files that are newer than now.
fn from_the_future(folder: &Path) -> Option<Finding> {
    let tomorrow = SystemTime::now() + Duration::from_secs(DAY_SECONDS as u64);
    let newest =
        std::fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()?;
    (newest > tomorrow).then(|| {
        Finding::warning(
            "clock",
            format!("{} holds files that are newer than the clock", folder.display()),
            "the clock was set back; set it, for example with `timedatectl set-ntp true`",
        )
    })
}

fn models(plan: &Plan, data: &DataDir, findings: &mut Vec<Finding>) {
    for (what, model) in &plan.models {
        let opened = locate::locate(model, data)
            .and_then(|located| Ok((located.path(data)?, located)))
            .and_then(|(path, located)| Ok((Model::open(path)?, located)));
        findings.push(match opened {
            Ok((opened, Located::File(path))) => Finding::good(
                what,
                format!("{} from {}; it is copied into the store at start", opened.info().name, path.display()),
            ),
            Ok((opened, _)) => Finding::good(what, opened.info().name.clone()),
            Err(error) => Finding::failure(
                what,
                format!("{}: {error:#}", model.display()),
                "name a model of `obsidian model list` or a GGUF file, or leave the key out for the shipped one",
            ),
        });
    }
    findings.push(match stored(data) {
        Ok(0) => Finding::good("stored models", "none beside the shipped ones"),
        Ok(count) => Finding::good("stored models", format!("{count}, checksums right")),
        Err(error) => Finding::failure(
            "stored models",
            format!("{error:#}"),
            "`obsidian model remove NAME`, then add or pull the model again",
        ),
    });
}

/// Number of stored models, each read and checked.
fn stored(data: &DataDir) -> Result<usize> {
    if !data.has_catalogue() {
        return Ok(0);
    }
    let catalogue = data.catalogue()?;
    let list = catalogue.list()?;
    for manifest in &list {
        let checked = catalogue.weights().get(manifest.digest, &mut |_, _| ());
        checked.map_err(|error| anyhow::anyhow!("{}: {error}", manifest.name))?;
    }
    Ok(list.len())
}

/// The engines reserve their address space and open the cache of compiled guests.
fn engines(data: &DataDir) -> Finding {
    let check = "sandboxes";
    let there = data.aot().is_dir();
    match Engines::new(&EngineOptions::new(data.aot())) {
        Ok(_) if there => Finding::good(check, "engines start, the cache of compiled guests is usable"),
        Ok(_) => Finding::good(check, "engines start; guests are compiled at the first start"),
        Err(error) => Finding::failure(
            check,
            error.to_string(),
            format!("see address space and vm settings above; if it is the cache, remove {}", data.aot().display()),
        ),
    }
}

fn certificates(authority: &Path, findings: &mut Vec<Finding>) {
    let check = "certificates";
    let Ok(entries) = std::fs::read_dir(authority) else {
        let found = format!("{} is not there yet; a first start makes it", authority.display());
        findings.push(Finding::good(check, found));
        return;
    };
    let mut soonest: Option<(i64, String)> = None;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".key.pem") {
            findings.extend(exposed(&path, check));
        }
        if !name.ends_with(".cert.pem") {
            continue;
        }
        match obsidian_wire::tls::validity(&path) {
            Ok((begins, ends)) => {
                findings.extend(expired(&name, begins, ends, now()));
                if soonest.as_ref().is_none_or(|(soonest, _)| ends < *soonest) {
                    soonest = Some((ends, name));
                }
            }
            Err(error) => {
                findings.push(Finding::failure(check, error.to_string(), "remove it, or put the right one there"));
            }
        }
    }
    if let Some((ends, name)) = soonest {
        let days = (ends - now()) / DAY_SECONDS;
        findings.push(Finding::good(check, format!("{name} is the first to expire, in {days} days")));
    }
}

fn exposed(key: &Path, check: &'static str) -> Option<Finding> {
    let mode = std::fs::metadata(key).ok()?.permissions().mode() & 0o777;
    let shown = key.display();
    (mode & 0o077 != 0).then(|| {
        Finding::failure(check, format!("{shown} can be read by others (mode {mode:o})"), format!("chmod 600 {shown}"))
    })
}

fn expired(name: &str, begins: i64, ends: i64, now: i64) -> Option<Finding> {
    let check = "certificates";
    let is_authority = name.starts_with("ca.");
    let advice = match is_authority {
        true => "make a new authority and give it to every node that trusts this one",
        false => "the node renews it at its next start where it holds the authority's key; else bring a new one",
    };
    let days = (ends - now) / DAY_SECONDS;
    if now < begins {
        return Some(Finding::failure(check, format!("{name} is not valid yet"), "the clock may be wrong; set it"));
    }
    if ends < now {
        let found = format!("{name} expired {} days ago", -days);
        return Some(match is_authority {
            true => Finding::failure(check, found, advice),
            false => Finding::warning(check, found, advice),
        });
    }
    (days < SOON_DAYS).then(|| Finding::warning(check, format!("{name} expires in {days} days"), advice))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn port(what: &str, address: SocketAddr) -> Finding {
    let check = "port";
    match TcpListener::bind(address) {
        Ok(_) => Finding::good(check, format!("{address} is free for {what}")),
        Err(error) => Finding::failure(
            check,
            format!("{address} cannot be taken for {what}: {error}"),
            "stop what listens there (this node, if it runs), or name another address",
        ),
    }
}

async fn hub(address: &str, name: &str, authority: &Path) -> Finding {
    let check = "hub";
    if !authority.join("ca.cert.pem").is_file() {
        return Finding::failure(
            check,
            format!("{} holds no authority to trust the hub by", authority.display()),
            "copy the hub's authority folder there, or name it with hub.authority_dir",
        );
    }
    match ask(address, name, authority).await {
        Ok(model) => Finding::good(check, format!("{address} serves {model}")),
        Err(error) => Finding::failure(
            check,
            format!("{error:#}"),
            "start the hub, check its address and that both ends have the same authority; meanwhile this POP answers alone",
        ),
    }
}

async fn ask(address: &str, name: &str, authority: &Path) -> Result<String> {
    let identity = DevelopmentCa::create_or_open(authority)?.issue(name)?;
    let link = HubLink::new(address, ClientTls::new(&identity)?, LinkOptions::default())?;
    link.ready(HUB_PATIENCE).await?;
    Ok(link.describe().await?.model)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::{DAY_SECONDS, data_directory, expired, port};
    use crate::doctor::{Finding, Level, table};

    #[test]
    fn certificates_are_judged_by_the_days_left() {
        let now = 1_800_000_000;
        let at = |name: &str, days: i64| expired(name, now - DAY_SECONDS, now + days * DAY_SECONDS, now);
        let mut findings: Vec<Finding> = Vec::new();
        for (name, days) in
            [("ca.cert.pem", 400), ("ca.cert.pem", 10), ("ca.cert.pem", -3), ("pop.cert.pem", 5), ("pop.cert.pem", -1)]
        {
            findings.extend(at(name, days));
        }
        findings.extend(expired("hub.cert.pem", now + 60, now + DAY_SECONDS, now));
        insta::assert_snapshot!(table(&findings));
    }

    #[test]
    fn a_directory_others_can_enter_is_a_warning_and_a_file_is_a_failure() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let levels = |path: &std::path::Path| {
            let mut findings = Vec::new();
            let usable = data_directory(path, &mut findings);
            (usable, findings[0].level)
        };
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(levels(folder.path()), (true, Level::Warning));
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(levels(folder.path()), (true, Level::Good));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the trial file was left");
        assert_eq!(levels(&folder.path().join("none")), (false, Level::Good));
        File::create(folder.path().join("file")).unwrap();
        assert_eq!(levels(&folder.path().join("file")), (false, Level::Failure));
    }

    #[test]
    fn a_taken_port_is_a_failure() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(port("clients", address).level, Level::Failure);
        drop(listener);
        assert_eq!(port("clients", address).level, Level::Good);
    }
}
