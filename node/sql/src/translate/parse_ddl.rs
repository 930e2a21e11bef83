//! CREATE, ALTER, DROP and column types.

use super::ast::{
    AlterItem, ColumnSpec, CreateTable, DefaultSpec, ForeignSpec, Name, Statement, TableItem, TableOptions,
    TypeSpec,
};
use super::lexer::Tok;
use super::parse_types::has_type_word;
use super::parser::Parser;
use crate::error::{SqlError, SqlResult};
use crate::plan::{IndexSpec, Position};

impl Parser<'_> {
    pub(crate) fn create(&mut self) -> SqlResult<Statement> {
        self.expect_word("CREATE")?;
        if self.is_any(&["DATABASE", "SCHEMA"]) {
            self.advance();
            let if_not_exists = self.skip_words(&["IF", "NOT", "EXISTS"]);
            let name = self.identifier()?;
            let mut options = TableOptions::default();
            self.table_options(&mut options)?;
            let TableOptions { charset, collation, .. } = options;
            return Ok(Statement::CreateDatabase { name, if_not_exists, charset, collation });
        }
        if self.is_any(&["UNIQUE", "INDEX", "FULLTEXT", "SPATIAL"]) {
            return self.create_index();
        }
        if self.is_any(&["USER", "ROLE"]) {
            self.skip_rest();
            return Ok(Statement::Nothing { commits: true });
        }
        if self.skip_word("TEMPORARY") {
            return Err(SqlError::unsupported("CREATE TEMPORARY TABLE"));
        }
        if !self.skip_word("TABLE") {
            if let Tok::Word(word) = self.peek() {
                let known = ["VIEW", "OR", "FUNCTION", "PROCEDURE", "TRIGGER", "EVENT", "DEFINER"];
                if known.iter().any(|k| word.eq_ignore_ascii_case(k)) {
                    return Err(SqlError::unsupported(format!("CREATE {}", word.to_ascii_uppercase())));
                }
            }
            return Err(self.unexpected());
        }
        let if_not_exists = self.skip_words(&["IF", "NOT", "EXISTS"]);
        let name = self.name()?;
        if self.skip_word("LIKE") {
            let like = self.name()?;
            return Ok(Statement::CreateTableLike { name, like, if_not_exists });
        }
        if self.is_op("(") && self.is_word_at(1, "LIKE") {
            self.advance();
            self.advance();
            let like = self.name()?;
            self.expect_op(")")?;
            return Ok(Statement::CreateTableLike { name, like, if_not_exists });
        }
        let items = if self.is_op("(") && !self.at_query() {
            self.parenthesized(Self::table_item)?
        } else {
            Vec::new()
        };
        let mut options = TableOptions::default();
        self.table_options(&mut options)?;
        if self.is_word("PARTITION") {
            return Err(SqlError::unsupported("PARTITION BY"));
        }
        self.skip_any(&["IGNORE", "REPLACE"]);
        self.skip_word("AS");
        let select = if self.at_query() { Some(self.query()?) } else { None };
        if items.is_empty() && select.is_none() {
            return Err(self.unexpected());
        }
        Ok(Statement::CreateTable(Box::new(CreateTable { name, if_not_exists, items, options, select })))
    }

    fn create_index(&mut self) -> SqlResult<Statement> {
        let unique = self.skip_any(&["UNIQUE", "FULLTEXT", "SPATIAL"]) == Some("UNIQUE");
        self.expect_word("INDEX")?;
        let name = self.identifier()?;
        self.index_type()?;
        self.expect_word("ON")?;
        let table = self.name()?;
        let columns = self.parenthesized(Self::key_part)?;
        let comment = self.index_options()?;
        while self.is_any(&["ALGORITHM", "LOCK"]) {
            self.advance();
            self.skip_op("=");
            self.advance();
        }
        let index = IndexSpec { name: Some(name), columns, unique, primary: false, comment };
        Ok(Statement::CreateIndex { table, index })
    }

    fn key_part(&mut self) -> SqlResult<(String, Option<u32>)> {
        if self.is_op("(") {
            return Err(SqlError::unsupported("functional key parts"));
        }
        let name = self.identifier()?;
        let mut prefix = None;
        if self.skip_op("(") {
            prefix = u32::try_from(self.unsigned()?).ok();
            self.expect_op(")")?;
        }
        self.skip_any(&["ASC", "DESC"]);
        Ok((name, prefix))
    }

    fn index_type(&mut self) -> SqlResult<()> {
        if self.skip_word("USING") {
            self.identifier()?;
        }
        Ok(())
    }

    fn index_options(&mut self) -> SqlResult<String> {
        let mut comment = String::new();
        loop {
            if self.skip_word("COMMENT") {
                comment = self.string()?;
            } else if self.is_word("USING") {
                self.index_type()?;
            } else if self.skip_word("KEY_BLOCK_SIZE") {
                self.skip_op("=");
                self.unsigned()?;
            } else if self.skip_any(&["VISIBLE", "INVISIBLE"]).is_none() {
                return Ok(comment);
            }
        }
    }

    fn table_item(&mut self) -> SqlResult<TableItem> {
        let mut constraint = None;
        let named = self.skip_word("CONSTRAINT");
        if named && !self.is_any(&["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"]) {
            constraint = Some(self.identifier()?);
        }
        if self.skip_words(&["PRIMARY", "KEY"]) {
            self.index_type()?;
            let columns = self.parenthesized(Self::key_part)?;
            let comment = self.index_options()?;
            let name = Some("PRIMARY".to_owned());
            return Ok(TableItem::Index(IndexSpec { name, columns, unique: true, primary: true, comment }));
        }
        if self.skip_words(&["FOREIGN", "KEY"]) {
            let index_name = if self.is_op("(") { None } else { Some(self.identifier()?) };
            let columns = self.parenthesized(Self::identifier)?;
            let mut spec = self.references()?;
            spec.name = constraint.or(index_name);
            spec.columns = columns;
            return Ok(TableItem::Foreign(spec));
        }
        if self.is_word("CHECK") {
            self.check()?;
            return Ok(TableItem::Check);
        }
        let unique = self.skip_word("UNIQUE");
        let full_text = !unique && self.skip_any(&["FULLTEXT", "SPATIAL"]).is_some();
        if full_text {
            return Err(SqlError::unsupported("FULLTEXT and SPATIAL keys"));
        }
        let key = self.skip_any(&["KEY", "INDEX"]).is_some();
        if unique || key {
            let name = if self.is_op("(") || self.is_word("USING") { None } else { Some(self.identifier()?) };
            self.index_type()?;
            let columns = self.parenthesized(Self::key_part)?;
            let comment = self.index_options()?;
            let name = name.or(constraint);
            return Ok(TableItem::Index(IndexSpec { name, columns, unique, primary: false, comment }));
        }
        Ok(TableItem::Column(Box::new(self.column_spec()?)))
    }

    fn check(&mut self) -> SqlResult<()> {
        self.expect_word("CHECK")?;
        self.expect_op("(")?;
        self.expr()?;
        self.expect_op(")")?;
        self.skip_word("NOT");
        self.skip_word("ENFORCED");
        Ok(())
    }

    fn references(&mut self) -> SqlResult<ForeignSpec> {
        self.expect_word("REFERENCES")?;
        let parent = self.name()?;
        let parent_columns = if self.is_op("(") {
            self.parenthesized(Self::key_part)?.into_iter().map(|(name, _)| name).collect()
        } else {
            Vec::new()
        };
        let mut spec = ForeignSpec {
            name: None,
            columns: Vec::new(),
            parent,
            parent_columns,
            on_delete: "NO ACTION".to_owned(),
            on_update: "NO ACTION".to_owned(),
        };
        if self.skip_word("MATCH") {
            self.identifier_after_point()?;
        }
        while self.is_word("ON") && (self.is_word_at(1, "DELETE") || self.is_word_at(1, "UPDATE")) {
            self.advance();
            let delete = self.skip_any(&["DELETE", "UPDATE"]) == Some("DELETE");
            let action = if self.skip_words(&["SET", "NULL"]) {
                "SET NULL"
            } else if self.skip_words(&["SET", "DEFAULT"]) {
                "SET DEFAULT"
            } else if self.skip_words(&["NO", "ACTION"]) {
                "NO ACTION"
            } else {
                match self.skip_any(&["RESTRICT", "CASCADE"]) {
                    Some(word) => word,
                    None => return Err(self.unexpected()),
                }
            };
            *(if delete { &mut spec.on_delete } else { &mut spec.on_update }) = action.to_owned();
        }
        Ok(spec)
    }

    pub(crate) fn column_spec(&mut self) -> SqlResult<ColumnSpec> {
        let name = self.identifier()?;
        if !has_type_word(self.peek()) {
            return Err(self.unexpected());
        }
        let ty = self.column_type()?;
        let mut spec = ColumnSpec {
            name,
            nullable: None,
            default: None,
            auto_increment: ty.serial,
            on_update_now: false,
            comment: String::new(),
            primary: false,
            unique: ty.serial,
            references: None,
            ty,
        };
        while self.column_attribute(&mut spec)? {}
        Ok(spec)
    }

    fn column_attribute(&mut self, spec: &mut ColumnSpec) -> SqlResult<bool> {
        if self.skip_words(&["NOT", "NULL"]) {
            spec.nullable = Some(false);
        } else if self.skip_word("NULL") {
            spec.nullable = Some(true);
        } else if self.skip_word("DEFAULT") {
            spec.default = Some(self.default_value()?);
        } else if self.skip_words(&["ON", "UPDATE"]) {
            self.now_word()?;
            spec.on_update_now = true;
        } else if self.skip_word("AUTO_INCREMENT") {
            spec.auto_increment = true;
        } else if self.skip_words(&["PRIMARY", "KEY"]) || self.skip_word("KEY") {
            spec.primary = true;
        } else if self.skip_word("UNIQUE") {
            self.skip_word("KEY");
            spec.unique = true;
        } else if self.skip_word("COMMENT") {
            spec.comment = self.string()?;
        } else if self.skip_word("COLLATE") {
            spec.ty.collation = Some(self.identifier_or_string()?);
        } else if self.skip_word("CHARSET") || self.skip_words(&["CHARACTER", "SET"]) {
            spec.ty.charset = Some(self.identifier_or_string()?);
        } else if self.is_word("REFERENCES") {
            // As in MySQL, REFERENCES of a column is read and has no effect.
            spec.references = Some(self.references()?);
        } else if self.is_any(&["COLUMN_FORMAT", "STORAGE", "ENGINE_ATTRIBUTE", "SECONDARY_ENGINE_ATTRIBUTE"])
        {
            self.advance();
            self.skip_op("=");
            self.advance();
        } else if self.is_any(&["GENERATED", "AS"]) {
            return Err(SqlError::unsupported("generated columns"));
        } else if self.is_any(&["CHECK", "CONSTRAINT"]) {
            if self.skip_word("CONSTRAINT") && !self.is_word("CHECK") {
                self.identifier()?;
            }
            self.check()?;
        } else if self.skip_any(&["VISIBLE", "INVISIBLE"]).is_none() {
            return Ok(false);
        }
        Ok(true)
    }

    fn now_word(&mut self) -> SqlResult<()> {
        if self.skip_any(&["CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP"]).is_none() {
            return Err(self.unexpected());
        }
        if self.skip_op("(") {
            if !self.is_op(")") {
                self.unsigned()?;
            }
            self.expect_op(")")?;
        }
        Ok(())
    }

    pub(crate) fn default_value(&mut self) -> SqlResult<DefaultSpec> {
        if self.is_any(&["CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP"]) {
            self.now_word()?;
            return Ok(DefaultSpec::Now);
        }
        if self.is_op("(") {
            let start = self.start();
            let inner = self.expr()?;
            return Ok(DefaultSpec::Expression(self.text[start..inner.end].to_owned()));
        }
        let sign = if self.skip_op("-") {
            "-"
        } else {
            self.skip_op("+");
            ""
        };
        let value = match self.peek().clone() {
            Tok::Int(digits) | Tok::Decimal(digits) | Tok::Float(digits) => format!("{sign}{digits}"),
            Tok::Str(text) if sign.is_empty() => text,
            Tok::Bytes(bytes) if sign.is_empty() => match String::from_utf8(bytes.clone()) {
                // A bit or hexadecimal literal is a number where the column is one.
                Ok(text) if text.bytes().all(|b| b >= b' ') => text,
                _ => bytes.iter().fold(0u64, |n, b| (n << 8) | u64::from(*b)).to_string(),
            },
            Tok::Word(word) if word.eq_ignore_ascii_case("NULL") => {
                self.advance();
                return Ok(DefaultSpec::Null);
            }
            Tok::Word(word) if word.eq_ignore_ascii_case("TRUE") => "1".to_owned(),
            Tok::Word(word) if word.eq_ignore_ascii_case("FALSE") => "0".to_owned(),
            Tok::Introducer(_) => {
                self.advance();
                return self.default_value();
            }
            _ => return Err(self.unexpected()),
        };
        self.advance();
        Ok(DefaultSpec::Literal(value))
    }

    /// `ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 …`: what matters is kept, what is known is accepted.
    pub(crate) fn table_options(&mut self, options: &mut TableOptions) -> SqlResult<bool> {
        const IGNORED: &[&str] = &[
            "ENGINE",
            "ROW_FORMAT",
            "KEY_BLOCK_SIZE",
            "AVG_ROW_LENGTH",
            "MAX_ROWS",
            "MIN_ROWS",
            "CHECKSUM",
            "DELAY_KEY_WRITE",
            "PACK_KEYS",
            "STATS_PERSISTENT",
            "STATS_AUTO_RECALC",
            "STATS_SAMPLE_PAGES",
            "TABLESPACE",
            "COMPRESSION",
            "ENCRYPTION",
            "INSERT_METHOD",
            "CONNECTION",
            "TYPE",
        ];
        let mut any = false;
        loop {
            let default = self.skip_word("DEFAULT");
            if self.skip_word("CHARSET") || self.skip_words(&["CHARACTER", "SET"]) {
                self.skip_op("=");
                options.charset = Some(self.identifier_or_string()?);
            } else if self.skip_word("COLLATE") {
                self.skip_op("=");
                options.collation = Some(self.identifier_or_string()?);
            } else if self.is_any(&["ENCRYPTION"]) {
                self.advance();
                self.skip_op("=");
                self.string()?;
            } else if default {
                return Err(self.unexpected());
            } else if self.skip_word("COMMENT") {
                self.skip_op("=");
                options.comment = Some(self.string()?);
            } else if self.skip_word("AUTO_INCREMENT") {
                self.skip_op("=");
                options.auto_increment = Some(self.unsigned()?);
            } else if self.is_any(IGNORED) {
                self.advance();
                self.skip_op("=");
                self.advance();
            } else {
                return Ok(any);
            }
            any = true;
            self.skip_op(",");
        }
    }

    pub(crate) fn alter(&mut self) -> SqlResult<Statement> {
        self.expect_word("ALTER")?;
        if self.skip_word("SYSTEM") {
            let start = self.start();
            self.skip_rest();
            return Ok(Statement::AlterSystem(self.text[start..self.end()].trim().to_owned()));
        }
        if self.is_any(&["USER", "DATABASE", "SCHEMA", "INSTANCE"]) {
            self.skip_rest();
            return Ok(Statement::Nothing { commits: true });
        }
        self.expect_word("TABLE")?;
        let table = self.name()?;
        let items = if *self.peek() == Tok::End { Vec::new() } else { self.list(Self::alter_item)? };
        Ok(Statement::AlterTable { table, items })
    }

    fn alter_item(&mut self) -> SqlResult<AlterItem> {
        if self.skip_word("ADD") {
            return self.alter_add();
        }
        if self.skip_word("DROP") {
            return self.alter_drop();
        }
        if self.is_any(&["MODIFY", "CHANGE"]) {
            let change = self.skip_any(&["MODIFY", "CHANGE"]) == Some("CHANGE");
            self.skip_word("COLUMN");
            let old = if change { Some(self.identifier()?) } else { None };
            let spec = self.column_spec()?;
            return Ok(AlterItem::Modify(old, Box::new(spec), self.column_position()?));
        }
        if self.skip_word("ALTER") {
            if self.skip_word("INDEX") {
                self.identifier()?;
                self.skip_any(&["VISIBLE", "INVISIBLE"]);
                return Ok(AlterItem::Nothing);
            }
            self.skip_word("COLUMN");
            let name = self.identifier()?;
            if self.skip_words(&["SET", "DEFAULT"]) {
                return Ok(AlterItem::SetDefault(name, Some(self.default_value()?)));
            }
            self.expect_word("DROP")?;
            self.expect_word("DEFAULT")?;
            return Ok(AlterItem::SetDefault(name, None));
        }
        if self.skip_word("RENAME") {
            if let Some(what) = self.skip_any(&["COLUMN", "INDEX", "KEY"]) {
                let old = self.identifier()?;
                self.expect_word("TO")?;
                let new = self.identifier()?;
                return Ok(if what == "COLUMN" {
                    AlterItem::RenameColumn(old, new)
                } else {
                    AlterItem::RenameIndex(old, new)
                });
            }
            self.skip_any(&["TO", "AS"]);
            return Ok(AlterItem::Rename(self.name()?));
        }
        if self.skip_words(&["CONVERT", "TO"]) {
            let mut options = TableOptions::default();
            self.table_options(&mut options)?;
            return Ok(AlterItem::Options(options));
        }
        if self.is_any(&["ALGORITHM", "LOCK"]) {
            self.advance();
            self.skip_op("=");
            self.advance();
            return Ok(AlterItem::Nothing);
        }
        if self.skip_words(&["ENABLE", "KEYS"])
            || self.skip_words(&["DISABLE", "KEYS"])
            || self.skip_word("FORCE")
        {
            return Ok(AlterItem::Nothing);
        }
        if self.skip_words(&["ORDER", "BY"]) {
            self.order_item()?;
            return Ok(AlterItem::Nothing);
        }
        let mut options = TableOptions::default();
        if !self.table_options(&mut options)? {
            return Err(self.unexpected());
        }
        Ok(AlterItem::Options(options))
    }

    fn alter_add(&mut self) -> SqlResult<AlterItem> {
        let words =
            ["CONSTRAINT", "PRIMARY", "UNIQUE", "KEY", "INDEX", "FOREIGN", "CHECK", "FULLTEXT", "SPATIAL"];
        if self.is_any(&words) {
            return Ok(AlterItem::Add(self.table_item()?));
        }
        self.skip_word("COLUMN");
        if self.is_op("(") {
            return Err(SqlError::unsupported("ADD COLUMN with several columns in parentheses"));
        }
        let spec = self.column_spec()?;
        Ok(AlterItem::AddColumn(Box::new(spec), self.column_position()?))
    }

    fn alter_drop(&mut self) -> SqlResult<AlterItem> {
        if self.skip_words(&["PRIMARY", "KEY"]) {
            return Ok(AlterItem::DropIndex("PRIMARY".to_owned()));
        }
        if self.skip_words(&["FOREIGN", "KEY"]) {
            return Ok(AlterItem::DropForeignKey(self.identifier()?));
        }
        if self.skip_any(&["INDEX", "KEY"]).is_some() {
            return Ok(AlterItem::DropIndex(self.identifier()?));
        }
        if self.skip_any(&["CONSTRAINT", "CHECK"]).is_some() {
            self.identifier()?;
            return Ok(AlterItem::Nothing);
        }
        self.skip_word("COLUMN");
        Ok(AlterItem::DropColumn(self.identifier()?))
    }

    fn column_position(&mut self) -> SqlResult<Position> {
        if self.skip_word("FIRST") {
            return Ok(Position::First);
        }
        if self.skip_word("AFTER") {
            return Ok(Position::After(self.identifier()?));
        }
        Ok(Position::Default)
    }

    pub(crate) fn drop(&mut self) -> SqlResult<Statement> {
        self.expect_word("DROP")?;
        if self.is_any(&["DATABASE", "SCHEMA"]) {
            self.advance();
            let if_exists = self.skip_words(&["IF", "EXISTS"]);
            return Ok(Statement::DropDatabase { name: self.identifier()?, if_exists });
        }
        if self.is_any(&["USER", "ROLE"]) {
            self.skip_rest();
            return Ok(Statement::Nothing { commits: true });
        }
        if self.skip_word("PREPARE") {
            return Ok(Statement::Deallocate(self.identifier()?.to_ascii_lowercase()));
        }
        if self.skip_word("INDEX") {
            let name = self.identifier_after_point()?;
            self.expect_word("ON")?;
            let table = self.name()?;
            self.skip_rest();
            return Ok(Statement::DropIndex { table, name });
        }
        if let Some(kind) = self.skip_any(&["VIEW", "PROCEDURE", "FUNCTION", "TRIGGER", "EVENT"]) {
            if self.skip_words(&["IF", "EXISTS"]) {
                self.skip_rest();
                return Ok(Statement::Nothing { commits: true });
            }
            let name = self.name()?;
            return Err(match kind {
                "VIEW" => SqlError::unknown_table(&name.name),
                _ => SqlError::does_not_exist(kind, &name.name),
            });
        }
        self.skip_word("TEMPORARY");
        if self.skip_any(&["TABLE", "TABLES"]).is_none() {
            return Err(self.unexpected());
        }
        let if_exists = self.skip_words(&["IF", "EXISTS"]);
        let tables: Vec<Name> = self.list(Self::name)?;
        self.skip_any(&["RESTRICT", "CASCADE"]);
        Ok(Statement::DropTable { tables, if_exists })
    }
}

impl TypeSpec {
    /// A type without a collation of its own.
    pub(crate) fn plain(ty: crate::types::ColumnType) -> Self {
        Self { ty, charset: None, collation: None, serial: false }
    }
}
