-- The tables whose rows incremental metrics aggregate.

-- name: as a query says it; base: the table whose changes feed it. The rows of _verdicts are those of
-- the view verdicts; built-in metrics name the table.
create or replace function flywheel._facts()
returns table (name text, fact text, base text)
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  values
    ('traces', 'traces', 'traces'),
    ('spans', 'spans', 'spans'),
    ('verdicts', 'verdicts', '_verdicts'),
    ('_verdicts', 'verdicts', '_verdicts');
$$;

comment on function flywheel._facts() is 'What incremental metrics can aggregate, and the tables behind it.';

-- Where a column of a fact comes from. expression is over the row n of the base table. lookup says
-- that it is constant for all rows of one version or one dimension: the stream then keeps that key,
-- and the column is looked up when the metric is read.
create or replace function flywheel._fact_columns(fact_name text)
returns table (name text, type text, expression text, lookup text)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select a.attname::text, format_type(a.atttypid, null), format('n.%I', a.attname), null
  from pg_attribute as a
  where fact_name <> 'verdicts' and a.attrelid = to_regclass(format('flywheel.%I', fact_name)) and a.attnum > 0 and not a.attisdropped
  union all
  select c.name, c.type, c.expression, c.lookup
  from (values
    ('trace_id', 'uuid', 'n.trace_id', null),
    ('span_id', 'uuid', 'n.span_id', null),
    ('version_id', 'integer', 'n.version_id', null),
    ('dimension_id', 'bigint', 'n.dimension_id', null),
    ('revision', 'integer', 'n.revision', null),
    ('status', 'text', 'n.status::pg_catalog.text', null),
    ('passed', 'boolean', 'case when n.status operator(pg_catalog.=) ''passed'' then true when n.status operator(pg_catalog.=) ''failed'' then false end', null),
    ('score', 'double precision', 'n.score', null),
    ('predicted_label', 'text', 'n.predicted_label', null),
    ('confidence', 'real', 'n.confidence', null),
    ('error', 'text', 'n.error', null),
    ('duration_ms', 'real', 'n.duration_ms', null),
    ('created_at', 'timestamp with time zone', 'n.created_at', null),
    ('details', 'jsonb', 'n.details', null),
    ('validator', 'text', 'd.name', 'version'),
    ('validator_id', 'integer', 'd.validator_id', 'version'),
    ('version', 'integer', 'r.version', 'version'),
    ('language', 'text', 'r.language', 'version'),
    ('pipeline', 'text', 'k.pipeline', 'dimension'),
    ('variant', 'text', 'k.variant', 'dimension'),
    ('environment', 'text', 'k.environment', 'dimension'),
    ('release', 'text', 'k.release', 'dimension'),
    ('node', 'text', 'k.node', 'dimension'),
    ('day', 'date', 'k.day', 'dimension')
  ) as c (name, type, expression, lookup)
  where fact_name = 'verdicts';
$$;

comment on function flywheel._fact_columns(text) is 'The columns of a fact, and how each comes from a row of its table.';
