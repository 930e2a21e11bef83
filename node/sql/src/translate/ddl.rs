//! DDL: names and collations resolved, MySQL's rules of column definitions.

use super::ast::{
    AlterItem, ColumnSpec, CreateTable, DefaultSpec, ForeignSpec, Name, TableItem, TableOptions, TypeSpec,
};
use super::binder::Binder;
use crate::catalog::{ColumnDef, Default, ForeignKey, IndexDef, TableDef, TableState};
use crate::collation::Collation;
use crate::error::{SqlError, SqlResult};
use crate::plan::{AlterAction, Ddl, IndexSpec, TableName};
use crate::types::{ColumnMeta, ColumnType, flags};

/// The collation that a character set or collation names.
///
/// # Errors
///
/// 1115, 1273, and 1253 if they do not fit.
pub(crate) fn collation_of(charset: Option<&str>, collation: Option<&str>) -> SqlResult<Option<Collation>> {
    let of_charset = match charset {
        Some(name) => match Collation::of_charset(name) {
            Some(collation) => Some(collation),
            None => return Err(SqlError::new(1115, format!("Unknown character set: '{name}'"))),
        },
        None => None,
    };
    let Some(name) = collation else { return Ok(of_charset) };
    let Some(found) = Collation::by_name(name) else {
        return Err(SqlError::new(1273, format!("Unknown collation: '{name}'")));
    };
    if let Some(charset) = of_charset
        && charset.info().charset != found.info().charset
    {
        return Err(SqlError::new(
            1253,
            format!("COLLATION '{name}' is not valid for CHARACTER SET '{}'", charset.info().charset),
        ));
    }
    Ok(Some(found))
}

fn with_collation(ty: ColumnType, chosen: Collation) -> ColumnType {
    if chosen == Collation::binary() {
        return match ty {
            ColumnType::Char { length, .. } => ColumnType::Binary(length),
            ColumnType::VarChar { length, .. } => ColumnType::VarBinary(length),
            ColumnType::Text { kind, .. } => ColumnType::Blob(kind),
            other => other,
        };
    }
    match ty {
        ColumnType::Char { length, .. } => ColumnType::Char { length, collation: chosen },
        ColumnType::VarChar { length, .. } => ColumnType::VarChar { length, collation: chosen },
        ColumnType::Text { kind, .. } => ColumnType::Text { kind, collation: chosen },
        ColumnType::Enum { labels, .. } => ColumnType::Enum { labels, collation: chosen },
        ColumnType::Set { labels, .. } => ColumnType::Set { labels, collation: chosen },
        other => other,
    }
}

fn resolve_type(spec: &TypeSpec, table: Collation) -> SqlResult<ColumnType> {
    let own = collation_of(spec.charset.as_deref(), spec.collation.as_deref())?;
    Ok(with_collation(spec.ty.clone(), own.unwrap_or(table)))
}

fn default_of(spec: &DefaultSpec) -> Default {
    match spec {
        DefaultSpec::Null => Default::Null,
        DefaultSpec::Literal(text) => Default::Literal(text.clone()),
        DefaultSpec::Now => Default::CurrentTimestamp,
        DefaultSpec::Expression(text) => Default::Expression(text.clone()),
    }
}

fn column_def(spec: &ColumnSpec, table: Collation) -> SqlResult<ColumnDef> {
    let ty = resolve_type(&spec.ty, table)?;
    let nullable = spec.nullable.unwrap_or(true) && !spec.primary && !spec.ty.serial;
    let invalid = || SqlError::new(1067, format!("Invalid default value for '{}'", spec.name));
    if matches!(spec.default, Some(DefaultSpec::Null)) && !nullable {
        return Err(invalid());
    }
    if matches!(spec.default, Some(DefaultSpec::Now))
        && !matches!(ty, ColumnType::DateTime(_) | ColumnType::Timestamp(_))
    {
        return Err(invalid());
    }
    let large = matches!(ty, ColumnType::Text { .. } | ColumnType::Blob(_) | ColumnType::Json);
    if large && matches!(spec.default, Some(DefaultSpec::Literal(_))) {
        return Err(SqlError::new(
            1101,
            format!("BLOB, TEXT, GEOMETRY or JSON column '{}' can't have a default value", spec.name),
        ));
    }
    let default = match &spec.default {
        Some(default) => Some(default_of(default)),
        None if nullable => Some(Default::Null),
        None => None,
    };
    Ok(ColumnDef {
        nullable,
        default: if spec.auto_increment { None } else { default },
        auto_increment: spec.auto_increment,
        on_update_now: spec.on_update_now,
        comment: spec.comment.clone(),
        ..ColumnDef::new(spec.name.clone(), ty)
    })
}

impl Binder<'_> {
    pub(crate) fn table_name(&self, name: &Name) -> SqlResult<TableName> {
        Ok(TableName { database: self.database_of(name)?, table: name.name.clone() })
    }

    fn default_collation(&self, database: &str, options: &TableOptions) -> SqlResult<Collation> {
        if let Some(own) = collation_of(options.charset.as_deref(), options.collation.as_deref())? {
            return Ok(own);
        }
        Ok(self.ctx.catalog.database(database)?.map(|d| d.collation).unwrap_or_default())
    }

    fn foreign_key(&self, spec: &ForeignSpec, database: &str, table: &str, number: usize) -> ForeignKey {
        ForeignKey {
            name: spec.name.clone().unwrap_or_else(|| format!("{table}_ibfk_{number}")),
            columns: spec.columns.clone(),
            parent_database: spec.parent.database.clone().unwrap_or_else(|| database.to_owned()),
            parent_table: spec.parent.name.clone(),
            parent_columns: spec.parent_columns.clone(),
            on_delete: spec.on_delete.clone(),
            on_update: spec.on_update.clone(),
        }
    }

    /// CREATE TABLE.
    pub(crate) fn create_table(&mut self, create: &CreateTable) -> SqlResult<Ddl> {
        let name = self.table_name(&create.name)?;
        if self.ctx.catalog.database(&name.database)?.is_none() {
            return Err(SqlError::unknown_database(&name.database));
        }
        let collation = self.default_collation(&name.database, &create.options)?;
        let mut table = TableDef {
            id: 0,
            database: name.database.clone(),
            name: name.table.clone(),
            columns: Vec::new(),
            indexes: Vec::new(),
            auto_increment: create.options.auto_increment,
            collation,
            comment: create.options.comment.clone().unwrap_or_default(),
            engine: "InnoDB".to_owned(),
            version: 0,
            state: TableState::Public,
            next_column_id: 0,
            next_index_id: 0,
            foreign_keys: Vec::new(),
            created: u64::try_from(self.ctx.session.statement_micros / 1_000_000).unwrap_or(0),
        };
        let mut indexes: Vec<IndexSpec> = Vec::new();
        for item in &create.items {
            match item {
                TableItem::Column(spec) => {
                    add_column(&mut table, column_def(spec, collation)?)?;
                    indexes.extend(column_indexes(spec));
                }
                TableItem::Index(spec) => indexes.push(spec.clone()),
                TableItem::Foreign(spec) => {
                    let number = table.foreign_keys.len() + 1;
                    let key = self.foreign_key(spec, &name.database, &name.table, number);
                    table.foreign_keys.push(key);
                }
                TableItem::Check => {}
            }
        }
        let select = self.create_as(create, &mut table)?;
        // A foreign key has an index of its columns.
        for key in &table.foreign_keys {
            let columns: Vec<(String, Option<u32>)> = key.columns.iter().map(|c| (c.clone(), None)).collect();
            let covered = indexes.iter().any(|i| {
                i.columns.len() >= columns.len()
                    && i.columns.iter().zip(&columns).all(|(a, b)| a.0.eq_ignore_ascii_case(&b.0))
            });
            if !covered {
                let name = Some(key.name.clone());
                indexes.push(IndexSpec {
                    name,
                    columns,
                    unique: false,
                    primary: false,
                    comment: String::new(),
                });
            }
        }
        set_indexes(&mut table, indexes)?;
        check_auto_increment(&table)?;
        if table.columns.is_empty() {
            return Err(SqlError::new(1113, "A table must have at least 1 column"));
        }
        Ok(Ddl::CreateTable { table: Box::new(table), if_not_exists: create.if_not_exists, select })
    }

    fn create_as(
        &mut self,
        create: &CreateTable,
        table: &mut TableDef,
    ) -> SqlResult<Option<(Vec<usize>, crate::plan::Query)>> {
        let Some(query) = &create.select else { return Ok(None) };
        let (sql, metas) = self.query(query)?;
        let mut ordinals = Vec::new();
        for meta in &metas {
            if let Some(ordinal) = table.column(&meta.name) {
                ordinals.push(ordinal);
                continue;
            }
            ordinals.push(table.columns.len());
            add_column(table, column_from(meta))?;
        }
        Ok(Some((ordinals, self.finish(sql, metas))))
    }

    /// ALTER TABLE.
    pub(crate) fn alter_table(&mut self, name: &Name, items: &[AlterItem]) -> SqlResult<Ddl> {
        let table = self.table(name)?;
        let place = TableName { database: table.database.clone(), table: table.name.clone() };
        let mut collation = table.collation;
        let mut actions = Vec::new();
        for item in items {
            match item {
                AlterItem::AddColumn(spec, position) => {
                    actions.push(AlterAction::AddColumn(column_def(spec, collation)?, position.clone()));
                    actions.extend(column_indexes(spec).into_iter().map(AlterAction::AddIndex));
                }
                AlterItem::Add(TableItem::Index(spec)) => actions.push(AlterAction::AddIndex(spec.clone())),
                AlterItem::Add(TableItem::Foreign(spec)) => {
                    let number = table.foreign_keys.len() + 1;
                    let key = self.foreign_key(spec, &table.database, &table.name, number);
                    actions.push(AlterAction::AddForeignKey(key));
                }
                AlterItem::Add(_) | AlterItem::Nothing => actions.push(AlterAction::Nothing),
                AlterItem::DropColumn(name) => actions.push(AlterAction::DropColumn { name: name.clone() }),
                AlterItem::Modify(old, spec, position) => {
                    actions.push(AlterAction::ModifyColumn {
                        old_name: old.clone().unwrap_or_else(|| spec.name.clone()),
                        column: column_def(spec, collation)?,
                        position: position.clone(),
                    });
                    actions.extend(column_indexes(spec).into_iter().map(AlterAction::AddIndex));
                }
                AlterItem::RenameColumn(old, new) => {
                    actions.push(AlterAction::RenameColumn { old_name: old.clone(), new_name: new.clone() })
                }
                AlterItem::SetDefault(column, default) => actions.push(AlterAction::SetDefault {
                    column: column.clone(),
                    default: default.as_ref().map(default_of),
                }),
                AlterItem::DropIndex(name) => {
                    actions.push(AlterAction::DropIndex { name: name.clone(), if_exists: false });
                }
                AlterItem::DropForeignKey(name) => actions.push(AlterAction::DropForeignKey(name.clone())),
                AlterItem::RenameIndex(old, new) => {
                    actions.push(AlterAction::RenameIndex { old_name: old.clone(), new_name: new.clone() })
                }
                AlterItem::Rename(new) => actions.push(AlterAction::RenameTable(self.table_name(new)?)),
                AlterItem::Options(options) => {
                    if let Some(chosen) =
                        collation_of(options.charset.as_deref(), options.collation.as_deref())?
                    {
                        collation = chosen;
                        actions.push(AlterAction::Collation(chosen));
                    }
                    actions.extend(options.comment.clone().map(AlterAction::Comment));
                    actions.extend(options.auto_increment.map(AlterAction::AutoIncrement));
                }
            }
        }
        Ok(Ddl::Alter { table: place, actions })
    }
}

fn add_column(table: &mut TableDef, column: ColumnDef) -> SqlResult<()> {
    if table.column(&column.name).is_some() {
        return Err(SqlError::new(1060, format!("Duplicate column name '{}'", column.name)));
    }
    table.columns.push(column);
    Ok(())
}

fn column_from(meta: &ColumnMeta) -> ColumnDef {
    let ty = match &meta.ty {
        ColumnType::Null => ColumnType::Binary(0),
        other => other.clone(),
    };
    let nullable = meta.flags & flags::NOT_NULL == 0;
    if nullable { ColumnDef::new(meta.name.clone(), ty) } else { ColumnDef::required(meta.name.clone(), ty) }
}

fn column_indexes(spec: &ColumnSpec) -> Vec<IndexSpec> {
    let columns = vec![(spec.name.clone(), None)];
    let mut all = Vec::new();
    if spec.primary {
        all.push(IndexSpec {
            name: Some("PRIMARY".to_owned()),
            columns: columns.clone(),
            unique: true,
            primary: true,
            comment: String::new(),
        });
    }
    if spec.unique {
        all.push(IndexSpec { name: None, columns, unique: true, primary: false, comment: String::new() });
    }
    all
}

/// Gives indexes their names and places: the primary key first, then unique ones, then the others.
fn set_indexes(table: &mut TableDef, mut specs: Vec<IndexSpec>) -> SqlResult<()> {
    if specs.iter().filter(|s| s.primary).count() > 1 {
        return Err(SqlError::new(1068, "Multiple primary key defined"));
    }
    specs.sort_by_key(|s| (!s.primary, !s.unique));
    for spec in specs {
        let mut columns = Vec::new();
        for (name, _) in &spec.columns {
            let Some(ordinal) = table.column(name) else {
                return Err(SqlError::new(1072, format!("Key column '{name}' doesn't exist in table")));
            };
            if columns.contains(&ordinal) {
                return Err(SqlError::new(1060, format!("Duplicate column name '{name}'")));
            }
            columns.push(ordinal);
        }
        for (ordinal, (name, prefix)) in columns.iter().zip(&spec.columns) {
            let ty = &table.columns[*ordinal].ty;
            let large = matches!(ty, ColumnType::Text { .. } | ColumnType::Blob(_) | ColumnType::Json);
            if large && prefix.is_none() {
                return Err(SqlError::new(
                    1170,
                    format!("BLOB/TEXT column '{name}' used in key specification without a key length"),
                ));
            }
        }
        if spec.primary {
            for &ordinal in &columns {
                let column = &mut table.columns[ordinal];
                column.nullable = false;
                if column.default == Some(Default::Null) {
                    column.default = None;
                }
            }
        }
        let name = match &spec.name {
            Some(name) => name.clone(),
            None => free_index_name(table, &spec.columns[0].0),
        };
        if table.index(&name).is_some() {
            return Err(SqlError::new(1061, format!("Duplicate key name '{name}'")));
        }
        let prefixes: Vec<Option<u32>> = spec.columns.iter().map(|c| c.1).collect();
        table.indexes.push(IndexDef {
            id: 0,
            name,
            columns,
            prefixes: if prefixes.iter().any(Option::is_some) { prefixes } else { Vec::new() },
            unique: spec.unique,
            primary: spec.primary,
            comment: spec.comment,
        });
    }
    Ok(())
}

fn free_index_name(table: &TableDef, column: &str) -> String {
    let mut name = column.to_owned();
    let mut number = 2;
    while table.index(&name).is_some() || name.eq_ignore_ascii_case("PRIMARY") {
        name = format!("{column}_{number}");
        number += 1;
    }
    name
}

fn check_auto_increment(table: &TableDef) -> SqlResult<()> {
    let automatic: Vec<usize> =
        (0..table.columns.len()).filter(|n| table.columns[*n].auto_increment).collect();
    let keyed = automatic.iter().all(|n| table.indexes.iter().any(|i| i.columns.first() == Some(n)));
    if automatic.len() > 1 || !keyed {
        return Err(SqlError::new(
            1075,
            "Incorrect table definition; there can be only one auto column and it must be defined as a key",
        ));
    }
    Ok(())
}
