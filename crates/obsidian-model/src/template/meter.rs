//! What a rendering may cost in bytes looked at and made, beside the engine's count of instructions.
//!
//! One instruction of a template can double a string or look through all of it, so counting instructions
//! bounds neither memory nor time. Before a template runs, its instructions are rewritten: those whose
//! cost depends on their operands become calls of [`super::operations`], which charge a [`Budget`] first;
//! so do all filters, methods and the output. Instructions that no chat template needs are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::{Object, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// Bytes one rendering may look at and make.
const BUDGET_BYTES: u64 = 256 << 20;
/// What a value costs beside its text.
const VALUE_BYTES: u64 = 128;
/// Namespaces of one rendering: each may hold the one before, and dropping the chain takes stack.
const MAX_NAMESPACES: u64 = 1_024;
/// Deepest nesting of lists and maps.
const MAX_NESTING: usize = 64;
/// No template can assign to this name.
const NAME: &str = "+budget";

/// What is left for one rendering.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: AtomicU64,
    namespaces: AtomicU64,
}

impl Object for Budget {}

impl Budget {
    /// A fresh budget as an entry of the template's context.
    pub(super) fn entry() -> (Value, Value) {
        let budget = Self { bytes: AtomicU64::new(BUDGET_BYTES), namespaces: AtomicU64::new(MAX_NAMESPACES) };
        (Value::from(NAME), Value::from_object(budget))
    }

    fn of(state: &State<'_, '_>) -> Result<Arc<Self>, Error> {
        let budget = state.lookup(NAME).and_then(|value| value.downcast_object::<Self>());
        budget.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "the rendering has no budget"))
    }
}

fn take(from: &AtomicU64, amount: u64, what: &'static str) -> Result<(), Error> {
    let taken = from.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount));
    taken.map(drop).map_err(|_| Error::new(ErrorKind::OutOfFuel, what))
}

/// Pays for `bytes` looked at or made.
pub(super) fn charge(state: &State<'_, '_>, bytes: usize) -> Result<(), Error> {
    let cost = (bytes as u64).saturating_add(VALUE_BYTES);
    take(&Budget::of(state)?.bytes, cost, "the template handles too much text")
}

/// Pays for looking at `value` and everything in it.
pub(super) fn charge_value(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    let budget = Budget::of(state)?;
    visit(&budget, value, 0)
}

/// Pays for one more namespace.
pub(super) fn charge_namespace(state: &State<'_, '_>) -> Result<(), Error> {
    take(&Budget::of(state)?.namespaces, 1, "the template makes too many namespaces")
}

fn visit(budget: &Budget, value: &Value, depth: usize) -> Result<(), Error> {
    if depth > MAX_NESTING {
        return Err(Error::new(ErrorKind::InvalidOperation, "the template nests lists or maps too deeply"));
    }
    let text = value.as_str().map_or(0, str::len) as u64;
    take(&budget.bytes, VALUE_BYTES + text, "the template handles too much text")?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.try_for_each(|item| visit(budget, &item, depth + 1)),
        ValueKind::Map => value.try_iter()?.try_for_each(|key| {
            visit(budget, &key, depth + 1)?;
            visit(budget, &value.get_item(&key)?, depth + 1)
        }),
        _ => Ok(()),
    }
}

/// The same instructions with what they cost metered.
///
/// # Errors
/// An instruction that is refused.
pub(super) fn rewrite<'source>(plain: &Instructions<'source>) -> Result<Instructions<'source>, Error> {
    let all = || (0..).map_while(|index| plain.get(index));
    // Some become two, so jumps need to know where each one went.
    let mut places = Vec::new();
    let mut next = 0_u32;
    for instruction in all() {
        places.push(next);
        next += if is_two(instruction) { 2 } else { 1 };
    }
    places.push(next);
    let place = |target: u32| places.get(target as usize).copied().unwrap_or(next);
    let mut metered = Instructions::new(plain.name(), plain.source());
    for instruction in all() {
        match instruction.clone() {
            Instruction::EmitRaw(text) => {
                metered.add(Instruction::LoadConst(Value::from(text)));
                metered.add(Instruction::Emit);
            }
            it @ (Instruction::PushLoop(_) | Instruction::UnpackList(_)) => {
                metered.add(Instruction::CallFunction("+items", Some(1)));
                metered.add(it);
            }
            it => {
                metered.add(one(it, &place)?);
            }
        }
    }
    Ok(metered)
}

fn is_two(instruction: &Instruction<'_>) -> bool {
    matches!(instruction, Instruction::EmitRaw(_) | Instruction::PushLoop(_) | Instruction::UnpackList(_))
}

fn one<'source>(instruction: Instruction<'source>, place: &impl Fn(u32) -> u32) -> Result<Instruction<'source>, Error> {
    let call = |name: &'static str, count: usize| {
        let count = u16::try_from(count).map_err(|_| refused("a list or map with more than 65,535 parts"))?;
        Ok(Instruction::CallFunction(name, Some(count)))
    };
    match instruction {
        Instruction::Add => call("+add", 2),
        Instruction::Mul => call("+multiply", 2),
        Instruction::StringConcat => call("+concatenate", 2),
        Instruction::Slice => call("+slice", 4),
        Instruction::GetItem => call("+item", 2),
        Instruction::In => call("+in", 2),
        Instruction::Eq => call("+equal", 2),
        Instruction::Ne => call("+unequal", 2),
        Instruction::Lt => call("+less", 2),
        Instruction::Lte => call("+at most", 2),
        Instruction::Gt => call("+more", 2),
        Instruction::Gte => call("+at least", 2),
        Instruction::BuildList(Some(count)) | Instruction::BuildTuple(Some(count)) => call("+list", count),
        Instruction::BuildMap(count) => call("+map", count.saturating_mul(2)),
        Instruction::Jump(target) => Ok(Instruction::Jump(place(target))),
        Instruction::Iterate(target) => Ok(Instruction::Iterate(place(target))),
        Instruction::JumpIfFalse(target) => Ok(Instruction::JumpIfFalse(place(target))),
        Instruction::JumpIfFalseOrPop(target) => Ok(Instruction::JumpIfFalseOrPop(place(target))),
        Instruction::JumpIfTrueOrPop(target) => Ok(Instruction::JumpIfTrueOrPop(place(target))),
        Instruction::BuildMacro(name, start, flags) => Ok(Instruction::BuildMacro(name, place(start), flags)),
        // A list whose length is counted comes from a loop with a condition; its items are paid for there.
        Instruction::BuildTuple(None) | Instruction::UnpackLists(_) => Err(refused("arguments given as a list")),
        Instruction::MergeKwargs(_) => Err(refused("arguments given as a map")),
        Instruction::CompareAndPreserve(_) => Err(refused("a chain of comparisons")),
        Instruction::Include(_) | Instruction::LoadBlocks | Instruction::ExportLocals => {
            Err(refused("other templates"))
        }
        other => Ok(other),
    }
}

fn refused(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("the template uses {what}, which is not supported"))
}
