//! ALTER TABLE, CREATE INDEX and DROP INDEX: each part is a change of its own.

use super::{BATCH, Definer, SORT_BYTES, discard, index_name, write_table};
use crate::catalog::{ColumnDef, Default as ColumnDefault, IndexDef, TableDef, TableState};
use crate::change::stale_definition;
use crate::convert::implicit_default;
use crate::encoding::{Entry, ROW_INDEX, decode_row, index_entry, index_range};
use crate::error::{SqlError, SqlResult};
use crate::plan::{AlterAction, IndexSpec, Position, TableName};
use crate::schema::{Garbage, Pending, after, decode, encode, pending_key};
use crate::store::{Key, ReadMode, StoreTxn};
use crate::types::Value;

impl Definer<'_> {
    pub(super) fn alter(&mut self, name: &TableName, actions: &[AlterAction]) -> SqlResult<u64> {
        self.undo(name, false)?;
        let mut name = name.clone();
        for action in actions {
            match action {
                AlterAction::AddIndex(spec) => self.add_index(&name, spec)?,
                AlterAction::RenameTable(to) => {
                    self.rename(&name, to)?;
                    name = to.clone();
                }
                other => self.alter_definition(&name, other)?,
            }
        }
        self.sweep()?;
        Ok(0)
    }

    /// What only changes the definition.
    fn alter_definition(&mut self, name: &TableName, action: &AlterAction) -> SqlResult<()> {
        self.transaction(|definer, txn| {
            let mut table = definer.lock_table(txn, name)?;
            definer.refuse_pending(&table)?;
            match action {
                AlterAction::AddColumn(column, position) => add_column(&mut table, column, position)?,
                AlterAction::DropColumn { name } => drop_column(txn, &mut table, name)?,
                AlterAction::ModifyColumn { old_name, column, position } => {
                    let full = !is_empty(txn, &table)?;
                    modify_column(&mut table, old_name, column, position, full)?;
                }
                AlterAction::RenameColumn { old_name, new_name } => {
                    let place = column_place(&table, old_name)?;
                    refuse_column(&table, new_name)?;
                    table.columns[place].name.clone_from(new_name);
                }
                AlterAction::SetDefault { column, default } => {
                    let place = column_place(&table, column)?;
                    table.columns[place].default.clone_from(default);
                }
                AlterAction::DropIndex { name, if_exists } => drop_index(txn, &mut table, name, *if_exists)?,
                AlterAction::RenameIndex { old_name, new_name } => {
                    if table.index(new_name).is_some() {
                        return Err(duplicate_key_name(new_name));
                    }
                    let place =
                        table.indexes.iter().position(|index| index.name.eq_ignore_ascii_case(old_name));
                    let place = place.ok_or_else(|| no_such_key(old_name))?;
                    table.indexes[place].name.clone_from(new_name);
                }
                AlterAction::AutoIncrement(value) => table.auto_increment = Some(*value),
                AlterAction::Comment(comment) => table.comment.clone_from(comment),
                AlterAction::Collation(collation) => table.collation = *collation,
                AlterAction::AddForeignKey(key) => table.foreign_keys.push(key.clone()),
                AlterAction::DropForeignKey(key) => {
                    table.foreign_keys.retain(|other| !other.name.eq_ignore_ascii_case(key));
                }
                AlterAction::Nothing => return Ok(()),
                AlterAction::AddIndex(_) | AlterAction::RenameTable(_) => {
                    return Err(SqlError::internal("carried out elsewhere"));
                }
            }
            table.version += 1;
            write_table(txn, &table)
        })
    }

    /// An empty table gets its index at once; a full one is read-only while it is built.
    fn add_index(&mut self, name: &TableName, spec: &IndexSpec) -> SqlResult<()> {
        let owner = self.owner.clone();
        let building = self.transaction(|definer, txn| {
            let mut table = definer.lock_table(txn, name)?;
            definer.refuse_pending(&table)?;
            let index = make_index(&table, spec)?;
            if is_empty(txn, &table)? {
                publish(&mut table, index);
                write_table(txn, &table)?;
                return Ok(None);
            }
            if index.primary {
                return Err(SqlError::unsupported("ADD PRIMARY KEY on a table with rows"));
            }
            let unfinished = Garbage { table: table.id, index: Some(index.id) };
            let pending = Pending {
                database: table.database.clone(),
                table: table.name.clone(),
                owner: owner.clone(),
                run: definer.run,
                unfinished,
            };
            txn.put(pending_key(table.id), encode(1, &pending)?)?;
            table.state = TableState::ReadOnly;
            table.version += 1;
            // Its number is taken, whatever comes of it.
            table.next_index_id = table.next_index_id.max(index.id + 1);
            write_table(txn, &table)?;
            Ok(Some((table, index)))
        })?;
        let Some((table, index)) = building else { return Ok(()) };
        if let Err(error) = self.build(&table, &index) {
            self.undo(name, true)?;
            return Err(error);
        }
        self.transaction(|definer, txn| {
            let mut table = definer.lock_table(txn, name)?;
            // Others may have taken this instance for dead and thrown away what was built.
            let pending = txn.lock(&pending_key(table.id), definer.wait)?;
            let pending: Option<Pending> = pending.map(|row| decode(&row)).transpose()?;
            let mine = |pending: &Pending| {
                pending.owner == owner
                    && pending.run == definer.run
                    && pending.unfinished.index == Some(index.id)
            };
            if !pending.as_ref().is_some_and(mine) {
                return Err(stale_definition());
            }
            txn.delete(pending_key(table.id))?;
            table.state = TableState::Public;
            publish(&mut table, index.clone());
            write_table(txn, &table)
        })
    }

    /// Writes an index's entries: a part of the table at a time, sorted. Nobody else writes the table.
    fn build(&mut self, table: &TableDef, index: &IndexDef) -> SqlResult<()> {
        let mut rest = index_range(table.id, ROW_INDEX);
        let mut more = true;
        while more {
            let mut entries = Vec::new();
            let mut bytes = 0;
            while more && bytes < SORT_BYTES {
                let rows =
                    self.transaction(|_, txn| Ok(txn.scan(&rest, false, BATCH, ReadMode::Present)?))?;
                more = rows.len() == BATCH;
                if let Some((last, _)) = rows.last() {
                    rest.start = after(last);
                }
                for (key, row) in rows {
                    let entry = index_entry(table, index, &decode_row(table, &row)?, &key);
                    bytes += entry.key.len() + key.len() + std::mem::size_of::<(Entry, Key)>();
                    entries.push((entry, key));
                }
            }
            entries.sort_unstable_by(|(one, _), (other, _)| one.key.cmp(&other.key));
            for batch in entries.chunks(BATCH) {
                self.transaction(|definer, txn| definer.write_entries(txn, table, index, batch))?;
            }
        }
        Ok(())
    }

    fn write_entries(
        &mut self,
        txn: &mut dyn StoreTxn,
        table: &TableDef,
        index: &IndexDef,
        entries: &[(Entry, Key)],
    ) -> SqlResult<()> {
        for (entry, key) in entries {
            if entry.unique && txn.lock(&entry.key, self.wait)?.is_some_and(|other| other != *key) {
                return Err(duplicate(txn, table, index, key)?);
            }
            txn.put(entry.key.clone(), key.clone())?;
        }
        Ok(())
    }
}

/// Error 1062 about a row whose index entry another row has.
fn duplicate(txn: &mut dyn StoreTxn, table: &TableDef, index: &IndexDef, key: &Key) -> SqlResult<SqlError> {
    let row = match txn.get(key, ReadMode::Present)? {
        Some(bytes) => decode_row(table, &bytes)?,
        None => Vec::new(),
    };
    let shown =
        |&column: &usize| row.get(column).and_then(Value::display).unwrap_or_else(|| "NULL".to_owned());
    let shown: Vec<String> = index.columns.iter().map(shown).collect();
    Ok(SqlError::duplicate_entry(&shown.join("-"), &format!("{}.{}", table.name, index.name)))
}

fn is_empty(txn: &mut dyn StoreTxn, table: &TableDef) -> SqlResult<bool> {
    Ok(txn.scan(&index_range(table.id, ROW_INDEX), false, 1, ReadMode::Present)?.is_empty())
}

fn publish(table: &mut TableDef, index: IndexDef) {
    table.next_index_id = table.next_index_id.max(index.id + 1);
    if index.primary {
        for &column in &index.columns {
            table.columns[column].nullable = false;
        }
        table.indexes.insert(0, index);
    } else {
        table.indexes.push(index);
    }
    table.version += 1;
}

fn duplicate_key_name(name: &str) -> SqlError {
    SqlError::new(1061, format!("Duplicate key name '{name}'"))
}

fn no_such_key(name: &str) -> SqlError {
    SqlError::new(1091, format!("Can't DROP '{name}'; check that column/key exists"))
}

fn column_place(table: &TableDef, name: &str) -> SqlResult<usize> {
    table.column(name).ok_or_else(|| SqlError::unknown_column(name, &table.name))
}

fn refuse_column(table: &TableDef, name: &str) -> SqlResult<()> {
    match table.column(name) {
        Some(_) => Err(SqlError::new(1060, format!("Duplicate column name '{name}'"))),
        None => Ok(()),
    }
}

fn make_index(table: &TableDef, spec: &IndexSpec) -> SqlResult<IndexDef> {
    let mut columns = Vec::with_capacity(spec.columns.len());
    for (name, _) in &spec.columns {
        let place = table.column(name);
        columns.push(
            place
                .ok_or_else(|| SqlError::new(1072, format!("Key column '{name}' doesn't exist in table")))?,
        );
    }
    let prefixes: Vec<Option<u32>> = spec.columns.iter().map(|(_, prefix)| *prefix).collect();
    if spec.primary && table.primary().is_some() {
        return Err(SqlError::new(1068, "Multiple primary key defined"));
    }
    let name = match &spec.name {
        _ if spec.primary => "PRIMARY".to_owned(),
        Some(name) => name.clone(),
        None => index_name(table, spec.columns.first().map_or("", |(name, _)| name)),
    };
    if table.index(&name).is_some() {
        return Err(duplicate_key_name(&name));
    }
    Ok(IndexDef {
        id: if spec.primary { 1 } else { table.next_index_id.max(2) },
        name,
        columns,
        prefixes: if prefixes.iter().any(Option::is_some) { prefixes } else { Vec::new() },
        unique: spec.unique || spec.primary,
        primary: spec.primary,
        comment: spec.comment.clone(),
    })
}

fn drop_index(txn: &mut dyn StoreTxn, table: &mut TableDef, name: &str, if_exists: bool) -> SqlResult<()> {
    let Some(place) = table.indexes.iter().position(|index| index.name.eq_ignore_ascii_case(name)) else {
        return if if_exists { Ok(()) } else { Err(no_such_key(name)) };
    };
    if table.indexes[place].primary {
        if !is_empty(txn, table)? {
            return Err(SqlError::unsupported("DROP PRIMARY KEY on a table with rows"));
        }
        table.indexes.remove(place);
        return Ok(());
    }
    let index = table.indexes.remove(place);
    discard(txn, table.id, Some(index.id))
}

/// Puts a column in its place; ordinals in indexes follow.
fn place_column(
    table: &mut TableDef,
    column: ColumnDef,
    position: &Position,
    otherwise: usize,
) -> SqlResult<()> {
    let at = match position {
        Position::Default => otherwise,
        Position::First => 0,
        Position::After(name) => column_place(table, name)? + 1,
    };
    for index in &mut table.indexes {
        for ordinal in &mut index.columns {
            if *ordinal >= at {
                *ordinal += 1;
            }
        }
    }
    table.columns.insert(at, column);
    Ok(())
}

fn add_column(table: &mut TableDef, column: &ColumnDef, position: &Position) -> SqlResult<()> {
    refuse_column(table, &column.name)?;
    if column.auto_increment {
        return Err(SqlError::unsupported("ADD COLUMN ... AUTO_INCREMENT"));
    }
    let mut column = column.clone();
    column.id = table.next_column_id;
    table.next_column_id += 1;
    column.added_with = match &column.default {
        Some(ColumnDefault::Literal(text)) => Some(text.clone()),
        Some(ColumnDefault::CurrentTimestamp | ColumnDefault::Expression(_)) => {
            return Err(SqlError::unsupported("ADD COLUMN with a default that is not a constant"));
        }
        Some(ColumnDefault::Null) | None if column.nullable => None,
        Some(ColumnDefault::Null) | None => implicit_default(&column.ty).display(),
    };
    let last = table.columns.len();
    place_column(table, column, position, last)
}

fn drop_column(txn: &mut dyn StoreTxn, table: &mut TableDef, name: &str) -> SqlResult<()> {
    let place = table.column(name).ok_or_else(|| no_such_key(name))?;
    if table.columns.len() == 1 {
        return Err(SqlError::new(
            1090,
            "You can't delete all columns with ALTER TABLE; use DROP TABLE instead",
        ));
    }
    if table.primary().is_some_and(|primary| primary.columns.contains(&place)) {
        return Err(SqlError::unsupported("DROP COLUMN of a column of the primary key"));
    }
    let (gone, kept): (Vec<IndexDef>, Vec<IndexDef>) =
        std::mem::take(&mut table.indexes).into_iter().partition(|index| index.columns.contains(&place));
    for index in gone {
        // MySQL takes the column out of its indexes; an index that had others besides is asked about first.
        if index.columns.len() > 1 {
            return Err(SqlError::unsupported(format!(
                "DROP COLUMN of a column of the index '{}': drop the index first",
                index.name
            )));
        }
        discard(txn, table.id, Some(index.id))?;
    }
    table.indexes = kept;
    table.columns.remove(place);
    for ordinal in table.indexes.iter_mut().flat_map(|index| &mut index.columns) {
        if *ordinal > place {
            *ordinal -= 1;
        }
    }
    Ok(())
}

fn modify_column(
    table: &mut TableDef,
    old_name: &str,
    column: &ColumnDef,
    position: &Position,
    full: bool,
) -> SqlResult<()> {
    let place = column_place(table, old_name)?;
    if !column.name.eq_ignore_ascii_case(old_name) {
        refuse_column(table, &column.name)?;
    }
    let old = table.columns[place].clone();
    let tightens = old.nullable && !column.nullable;
    if full && (old.ty != column.ty || tightens) {
        return Err(SqlError::unsupported("MODIFY COLUMN that changes the type of a table with rows"));
    }
    let mut new = column.clone();
    new.id = old.id;
    new.added_with = old.added_with;
    if matches!(position, Position::Default) {
        table.columns[place] = new;
        return Ok(());
    }
    let indexed = table.indexes.iter().any(|index| index.columns.contains(&place));
    if indexed {
        return Err(SqlError::unsupported("MODIFY COLUMN with a place for a column of an index"));
    }
    table.columns.remove(place);
    for ordinal in table.indexes.iter_mut().flat_map(|index| &mut index.columns) {
        if *ordinal > place {
            *ordinal -= 1;
        }
    }
    place_column(table, new, position, place)
}
