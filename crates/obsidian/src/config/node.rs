//! `[models]` and `[cores]` of a POP: models beside the draft model, and which threads run where.

use std::path::PathBuf;

use obsidian_sandbox::usable_cores;
use obsidian_types::limits::{MAX_DRAFTER_WORKERS, MAX_EDGE_MODELS};
use schemars::JsonSchema;
use serde::Deserialize;

/// Models beside the draft model. Requests that name one run on it at the POP; it is attached when it is asked for, and
/// the one that was not asked for the longest makes room.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ModelsSection {
    /// Names from `obsidian model list`, or GGUF files. A file's model is called what the file says.
    pub(crate) serve: Vec<PathBuf>,
    /// Those of `serve` that are attached at the start, written as there.
    pub(crate) warm: Vec<PathBuf>,
    /// Memory for the models attached at one time, MiB: weights and sandboxes; conversations come on top.
    pub(crate) budget_mib: u64,
    /// Sandboxes, and so threads, of each model.
    pub(crate) workers: usize,
}

impl Default for ModelsSection {
    fn default() -> Self {
        Self { serve: Vec::new(), warm: Vec::new(), budget_mib: 1_024, workers: 1 }
    }
}

impl ModelsSection {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.serve.len() > MAX_EDGE_MODELS {
            problems.push(format!("models.serve names {}, at most {MAX_EDGE_MODELS} are served", self.serve.len()));
        }
        if let Some(model) = self.warm.iter().find(|model| !self.serve.contains(model)) {
            problems.push(format!("models.warm names `{}`, which models.serve does not", model.display()));
        }
        if !(1..=MAX_DRAFTER_WORKERS).contains(&self.workers) {
            problems.push(format!("models.workers = {} is outside 1 to {MAX_DRAFTER_WORKERS}", self.workers));
        }
        problems
    }
}

/// Cores that threads stay on, by role; where none are named the scheduler decides.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CoresSection {
    /// For shield and router: a thread for each core named.
    pub(crate) compute: Vec<usize>,
    /// For models: a sandbox of the draft model for each core named; other models take turns on them.
    pub(crate) drafter: Vec<usize>,
}

impl CoresSection {
    /// Each role's key and its cores; those of functions are named in their own section.
    pub(crate) fn roles<'a>(&'a self, functions: &'a [usize]) -> [(&'static str, &'a [usize]); 3] {
        [("cores.compute", &self.compute), ("cores.drafter", &self.drafter), ("functions.cores", functions)]
    }

    pub(super) fn problems(&self, functions: &[usize]) -> Vec<String> {
        if self.roles(functions).iter().all(|(_, cores)| cores.is_empty()) {
            return Vec::new();
        }
        match usable_cores() {
            Ok(usable) => self.problems_on(&usable, functions),
            Err(error) => vec![error.to_string()],
        }
    }

    fn problems_on(&self, usable: &[usize], functions: &[usize]) -> Vec<String> {
        let mut problems = Vec::new();
        for (role, cores) in self.roles(functions) {
            if let Some(core) = cores.iter().find(|core| !usable.contains(core)) {
                problems.push(format!("{role} names core {core}, and this process may use {}", list(usable)));
            }
            if let Some((_, core)) = cores.iter().enumerate().find(|(index, core)| cores[..*index].contains(core)) {
                problems.push(format!("{role} names core {core} twice: once is enough"));
            }
        }
        if self.drafter.len() > MAX_DRAFTER_WORKERS {
            let count = self.drafter.len();
            problems.push(format!("cores.drafter names {count} cores, at most {MAX_DRAFTER_WORKERS} are used"));
        }
        problems
    }

    /// A core that two roles name.
    pub(crate) fn shared(&self, functions: &[usize]) -> Option<usize> {
        let mut all: Vec<usize> = self.roles(functions).into_iter().flat_map(|(_, cores)| cores).copied().collect();
        all.sort_unstable();
        all.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }
}

/// `0, 1, 2` for people.
pub(crate) fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::{CoresSection, ModelsSection};

    #[test]
    fn cores_that_are_not_there_or_twice_are_named() {
        let usable = [0, 1, 4];
        let cores = |compute: &[usize], drafter: &[usize]| CoresSection {
            compute: compute.to_vec(),
            drafter: drafter.to_vec(),
        };
        assert!(cores(&[0], &[1, 4]).problems_on(&usable, &[0]).is_empty());
        assert_eq!(
            cores(&[2], &[1, 1]).problems_on(&usable, &[7]),
            [
                "cores.compute names core 2, and this process may use 0, 1, 4",
                "cores.drafter names core 1 twice: once is enough",
                "functions.cores names core 7, and this process may use 0, 1, 4"
            ]
        );
        assert_eq!((cores(&[0], &[1]).shared(&[4]), cores(&[0, 1], &[4]).shared(&[1])), (None, Some(1)));
    }

    #[test]
    fn what_is_warm_must_be_served() {
        let models = ModelsSection { serve: vec!["a".into()], warm: vec!["b".into()], ..ModelsSection::default() };
        assert_eq!(models.problems(), ["models.warm names `b`, which models.serve does not"]);
        let models = ModelsSection { workers: 0, ..ModelsSection::default() };
        assert_eq!(models.problems().len(), 1);
    }
}
