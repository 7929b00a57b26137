//! `results.parquet`: the columns of `results.csv` with types, for programs that read tables.
//!
//! Money is a decimal of 15 places, which is exactly what this program counts in, so that sums are exact too.

/// The file's name.
pub(super) const NAME: &str = "results.parquet";

#[cfg(feature = "parquet")]
pub(super) use written::Parquet;

#[cfg(not(feature = "parquet"))]
pub(super) use absent::Parquet;

#[cfg(feature = "parquet")]
mod written {
    use std::borrow::Cow;
    use std::io::Error;
    use std::sync::Arc;

    use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
    use parquet::data_type::{
        ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
    };
    use parquet::errors::ParquetError;
    use parquet::file::properties::{EnabledStatistics, WriterProperties};
    use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
    use parquet::schema::types::{Type, TypePtr};

    use crate::job::OutputPlan;
    use crate::output::cells::{Cell, Kind, added, kinds};
    use crate::words::{Columns, ResultLine};

    /// So many rows are written at once, or fewer of so many bytes.
    const MAX_ROWS: usize = 10_000;
    const MAX_BYTES: usize = 16 << 20;
    /// The decimal places of the units that money is counted in.
    const PLACES: i32 = 15;
    /// As many digits as a decimal of 16 bytes may have.
    const DIGITS: i32 = 38;

    /// The bytes of `results.parquet`.
    pub struct Parquet {
        plan: OutputPlan,
        writer: SerializedFileWriter<Vec<u8>>,
        /// The rows that are not written yet, by columns.
        columns: Vec<Column>,
        rows: usize,
        bytes: usize,
    }

    /// Some cells of a column: for each row whether it has one (1) or not (0), and those that are there.
    struct Column {
        levels: Vec<i16>,
        values: Values,
    }

    enum Values {
        Text(Vec<ByteArray>),
        Whole(Vec<i64>),
        Money(Vec<FixedLenByteArray>),
        Score(Vec<f64>),
    }

    impl Parquet {
        /// As the job wants it, of an input with these columns.
        pub fn new(plan: &OutputPlan, columns: &Columns) -> Result<Self, Error> {
            let names = columns.names();
            let added = plan.result_columns();
            let texts = names.iter().map(|_| Kind::Text);
            let kinds: Vec<Kind> = texts.chain(kinds(plan)).collect();
            let names = names.iter().chain(&added);
            let fields: Result<Vec<TypePtr>, _> = names
                .zip(&kinds)
                .map(|(name, kind)| field(name, *kind))
                .collect();
            let schema = Type::group_type_builder("results")
                .with_fields(fields.map_err(Error::other)?)
                .build()
                .map_err(Error::other)?;
            // Without a version, a time or a place: the same rows make the same bytes.
            let properties = WriterProperties::builder()
                .set_created_by(env!("CARGO_PKG_NAME").to_owned())
                .set_compression(Compression::ZSTD(ZstdLevel::default()))
                .set_statistics_enabled(EnabledStatistics::Chunk)
                .build();
            let writer =
                SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties));
            Ok(Self {
                plan: plan.clone(),
                writer: writer.map_err(Error::other)?,
                columns: kinds.into_iter().map(Column::new).collect(),
                rows: 0,
                bytes: 0,
            })
        }

        /// Takes a row, and adds what is to be written when it has taken enough of them.
        pub fn line(&mut self, line: &ResultLine<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
            let cells = line.outcome.item.row.cells.iter();
            let cells = cells.map(|cell| Cell::Text(Some(Cow::from(cell))));
            let added = added(&self.plan, line);
            for (column, cell) in self.columns.iter_mut().zip(cells.chain(added)) {
                self.bytes += column.push(cell);
            }
            self.rows += 1;
            if self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES {
                self.write().map_err(Error::other)?;
                self.hand_over(out)?;
            }
            Ok(())
        }

        /// Adds what is left to be written.
        pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
            if self.rows > 0 {
                self.write().map_err(Error::other)?;
            }
            self.writer.finish().map_err(Error::other)?;
            self.hand_over(out)
        }

        fn write(&mut self) -> Result<(), ParquetError> {
            (self.rows, self.bytes) = (0, 0);
            let mut group = self.writer.next_row_group()?;
            for column in &mut self.columns {
                let writer = group.next_column()?;
                let mut writer =
                    writer.ok_or_else(|| ParquetError::General("a column more".to_owned()))?;
                column.write(&mut writer)?;
                writer.close()?;
            }
            group.close()?;
            Ok(())
        }

        fn hand_over(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
            self.writer.flush()?;
            out.append(self.writer.inner_mut());
            Ok(())
        }
    }

    impl Column {
        fn new(kind: Kind) -> Self {
            let values = match kind {
                Kind::Text => Values::Text(Vec::new()),
                Kind::Whole => Values::Whole(Vec::new()),
                Kind::Money => Values::Money(Vec::new()),
                Kind::Score => Values::Score(Vec::new()),
            };
            let levels = Vec::new();
            Self { levels, values }
        }

        /// Adds a cell. Returns about how much memory it takes.
        fn push(&mut self, cell: Cell<'_>) -> usize {
            match (&mut self.values, cell) {
                (Values::Text(values), Cell::Text(Some(text))) => {
                    self.levels.push(1);
                    values.push(text.as_bytes().to_vec().into());
                    return text.len() + 64;
                }
                (Values::Whole(values), Cell::Whole(Some(number))) => {
                    self.levels.push(1);
                    values.push(i64::try_from(number).unwrap_or(i64::MAX));
                }
                (Values::Money(values), Cell::Money(Some(amount))) => {
                    self.levels.push(1);
                    values.push(amount.units().to_be_bytes().to_vec().into());
                }
                (Values::Score(values), Cell::Score(Some(score))) => {
                    self.levels.push(1);
                    values.push(score);
                }
                _ => self.levels.push(0),
            }
            64
        }

        /// Writes what was added, and forgets it.
        fn write(&mut self, writer: &mut SerializedColumnWriter<'_>) -> Result<(), ParquetError> {
            let levels = std::mem::take(&mut self.levels);
            let levels = Some(&levels[..]);
            match &mut self.values {
                Values::Text(values) => {
                    let values = std::mem::take(values);
                    writer
                        .typed::<ByteArrayType>()
                        .write_batch(&values, levels, None)
                }
                Values::Whole(values) => {
                    let values = std::mem::take(values);
                    writer
                        .typed::<Int64Type>()
                        .write_batch(&values, levels, None)
                }
                Values::Money(values) => {
                    let values = std::mem::take(values);
                    let writer = writer.typed::<FixedLenByteArrayType>();
                    writer.write_batch(&values, levels, None)
                }
                Values::Score(values) => {
                    let values = std::mem::take(values);
                    writer
                        .typed::<DoubleType>()
                        .write_batch(&values, levels, None)
                }
            }
            .map(|_| ())
        }
    }

    fn field(name: &str, kind: Kind) -> Result<TypePtr, ParquetError> {
        let physical = match kind {
            Kind::Text => Physical::BYTE_ARRAY,
            Kind::Whole => Physical::INT64,
            Kind::Money => Physical::FIXED_LEN_BYTE_ARRAY,
            Kind::Score => Physical::DOUBLE,
        };
        let field =
            Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        let field = match kind {
            Kind::Text => field.with_logical_type(Some(LogicalType::String)),
            Kind::Money => field
                .with_logical_type(Some(LogicalType::decimal(PLACES, DIGITS)))
                .with_length(16)
                .with_precision(DIGITS)
                .with_scale(PLACES),
            Kind::Whole | Kind::Score => field,
        };
        field.build().map(Arc::new)
    }
}

#[cfg(not(feature = "parquet"))]
mod absent {
    use std::io::Error;

    use crate::job::{NO_PARQUET, OutputPlan};
    use crate::words::{Columns, ResultLine};

    /// Stands for what this program was built without.
    pub enum Parquet {}

    impl Parquet {
        /// The error that there is none.
        pub fn new(_: &OutputPlan, _: &Columns) -> Result<Self, Error> {
            let message = format!("this runner cannot write Parquet; {NO_PARQUET}");
            Err(Error::other(message))
        }

        /// There is none.
        pub fn line(&mut self, _: &ResultLine<'_>, _: &mut Vec<u8>) -> Result<(), Error> {
            match *self {}
        }

        /// There is none.
        pub fn finish(&mut self, _: &mut Vec<u8>) -> Result<(), Error> {
            match *self {}
        }
    }
}
