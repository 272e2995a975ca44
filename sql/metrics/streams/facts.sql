-- The tables whose rows incremental metrics aggregate.

-- name: as a query says it; base: the table whose changes feed it. The rows of _verdicts are those of
-- the view verdicts; built-in metrics name the table. A head names the current label of a target, and
-- labels do not change, so what changes in current_labels are the heads.
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
    ('_verdicts', 'verdicts', '_verdicts'),
    ('current_labels', 'current_labels', '_label_heads');
$$;

comment on function flywheel._facts() is 'What incremental metrics can aggregate, and the tables behind it.';

create or replace function flywheel._fact_table(fact_name text)
returns text
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select f.base from flywheel._facts() as f where f.name = fact_name;
$$;

comment on function flywheel._fact_table(text) is 'The table whose changes feed the streams of a fact.';

-- Where a column of a fact comes from. expression is over the row n of the base table, and over the
-- label l that a head names. lookup says that it is constant for all rows of one version or one
-- dimension: the stream then keeps that key, and the column is looked up when the metric is read.
create or replace function flywheel._fact_columns(fact_name text)
returns table (name text, type text, expression text, lookup text)
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select c.name, c.type, c.expression, c.lookup
  from (values
    ('{verdicts}', 'trace_id', 'uuid', 'n.trace_id', null),
    ('{verdicts,current_labels}', 'span_id', 'uuid', 'case when n.span_id operator(pg_catalog.<>) ''00000000-0000-0000-0000-000000000000'' then n.span_id end', null),
    ('{verdicts}', 'version_id', 'integer', 'n.version_id', null),
    ('{verdicts}', 'dimension_id', 'bigint', 'n.dimension_id', null),
    ('{verdicts}', 'revision', 'integer', 'n.revision', null),
    ('{verdicts}', 'status', 'text', 'n.status::pg_catalog.text', null),
    ('{verdicts}', 'passed', 'boolean', 'case when n.status operator(pg_catalog.=) ''passed'' then true when n.status operator(pg_catalog.=) ''failed'' then false end', null),
    ('{verdicts}', 'score', 'double precision', 'n.score', null),
    ('{verdicts}', 'predicted_label', 'text', 'n.predicted_label', null),
    ('{verdicts}', 'confidence', 'real', 'n.confidence', null),
    ('{verdicts}', 'error', 'text', 'n.error', null),
    ('{verdicts}', 'duration_ms', 'real', 'n.duration_ms', null),
    ('{verdicts}', 'created_at', 'timestamp with time zone', 'n.created_at', null),
    ('{verdicts}', 'details', 'jsonb', 'n.details', null),
    ('{verdicts,current_labels}', 'validator', 'text', 'd.name', 'version'),
    ('{verdicts,current_labels}', 'validator_id', 'integer', 'd.validator_id', 'version'),
    ('{verdicts,current_labels}', 'version', 'integer', 'r.version', 'version'),
    ('{verdicts}', 'language', 'text', 'r.language', 'version'),
    ('{verdicts}', 'pipeline', 'text', 'k.pipeline', 'dimension'),
    ('{verdicts}', 'variant', 'text', 'k.variant', 'dimension'),
    ('{verdicts}', 'environment', 'text', 'k.environment', 'dimension'),
    ('{verdicts}', 'release', 'text', 'k.release', 'dimension'),
    ('{verdicts}', 'node', 'text', 'k.node', 'dimension'),
    ('{verdicts}', 'day', 'date', 'k.day', 'dimension')
  ) as c (facts, name, type, expression, lookup)
  where fact_name = any (c.facts::text[])
  union all
  select a.attname::text, format_type(a.atttypid, null), format('%s.%I', f.alias, a.attname), null
  -- Not columns that somebody has added, and could rename under the functions that name them.
  from (values
    (
      'traces', 'traces', 'n',
      '{trace_id,pipeline,variant,environment,release,session_id,user_id,input,output,status,started_at,ended_at,attributes,received_at,revision,generation,revised_at}'
    ),
    (
      'spans', 'spans', 'n',
      '{trace_id,span_id,parent_span_id,node,kind,input,output,status,started_at,ended_at,model,input_tokens,output_tokens,cost_usd,attributes,received_at,revision,generation,revised_at}'
    ),
    (
      'current_labels', '_labels', 'l',
      '{trace_id,label_id,revision,version_id,created_at,passed,gold_label,score,reason,corrected_output,labeler,session_role,source,split,sampling_probability,input,output,pipeline,node,attributes,target_received_at,precedence}'
    )
  ) as f (fact, stored_in, alias, columns)
  join pg_attribute as a
    on a.attrelid = to_regclass(format('flywheel.%I', f.stored_in)) and a.attnum > 0 and a.attname = any (f.columns::name[])
  where f.fact = fact_name;
$$;

comment on function flywheel._fact_columns(text) is 'The columns of a fact, and how each comes from a row of its table.';
