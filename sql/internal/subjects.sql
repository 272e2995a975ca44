-- What an SQL validator can name: the columns of its subject, and params.

create or replace function flywheel._subject_columns(subject text)
returns table (name text, type text)
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select c.name, c.type
  from (values
    ('trace', 1, 'trace_id', 'uuid'),
    ('trace', 2, 'pipeline', 'text'),
    ('trace', 3, 'variant', 'text'),
    ('trace', 4, 'environment', 'text'),
    ('trace', 5, 'release', 'text'),
    ('trace', 6, 'session_id', 'text'),
    ('trace', 7, 'user_id', 'text'),
    ('trace', 8, 'input', 'text'),
    ('trace', 9, 'output', 'text'),
    ('trace', 10, 'status', 'text'),
    ('trace', 11, 'started_at', 'timestamptz'),
    ('trace', 12, 'ended_at', 'timestamptz'),
    ('trace', 13, 'attributes', 'jsonb'),
    ('span', 1, 'trace_id', 'uuid'),
    ('span', 2, 'span_id', 'uuid'),
    ('span', 3, 'parent_span_id', 'uuid'),
    ('span', 4, 'pipeline', 'text'),
    ('span', 5, 'variant', 'text'),
    ('span', 6, 'environment', 'text'),
    ('span', 7, 'release', 'text'),
    ('span', 8, 'session_id', 'text'),
    ('span', 9, 'user_id', 'text'),
    ('span', 10, 'node', 'text'),
    ('span', 11, 'kind', 'text'),
    ('span', 12, 'input', 'text'),
    ('span', 13, 'output', 'text'),
    ('span', 14, 'status', 'text'),
    ('span', 15, 'started_at', 'timestamptz'),
    ('span', 16, 'ended_at', 'timestamptz'),
    ('span', 17, 'model', 'text'),
    ('span', 18, 'input_tokens', 'integer'),
    ('span', 19, 'output_tokens', 'integer'),
    ('span', 20, 'cost_usd', 'numeric'),
    ('span', 21, 'attributes', 'jsonb')
  ) as c (subject, position, name, type)
  where c.subject = _subject_columns.subject
  union all
  select 'params', 'jsonb';
$$;

comment on function flywheel._subject_columns(text) is
  'The names and types an SQL validator of this subject (trace or span) can use, params last.';

-- The nil uuid in the place of a span id means "the trace itself".
create or replace function flywheel._no_span()
returns uuid
language sql
immutable
parallel safe
begin atomic
  select '00000000-0000-0000-0000-000000000000'::uuid;
end;

comment on function flywheel._no_span() is 'The span id of a verdict about the trace itself: the nil uuid.';

-- An hour's worth of rows shares one value, so the hash is all that is computed per row.
create or replace function flywheel._dimension_id(
  pipeline text, variant text, environment text, release text, node text, started_at timestamptz
)
returns bigint
language sql
immutable
parallel safe
begin atomic
  select pg_catalog.hash_record_extended(
    row (pipeline, variant, environment, release, node, (started_at at time zone 'UTC')::date), 0
  );
end;

comment on function flywheel._dimension_id(text, text, text, text, text, timestamptz) is
  'Key of _dimensions: a 64-bit hash of what metrics group by, so that no row needs a lookup.';

-- Called only for a combination the caller cannot see yet: once per combination and day. Another
-- session may be writing the same one; both rows are right, and neither waits.
create or replace function flywheel._add_dimension(
  dimension_id bigint,
  pipeline text, variant text, environment text, release text, node text, started_at timestamptz
)
returns boolean
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  -- Rows of the same statement do not see each other's.
  if not exists (
    select from flywheel._dimensions as d where d.dimension_id = _add_dimension.dimension_id
  ) then
    insert into flywheel._dimensions (dimension_id, pipeline, variant, environment, release, node, day)
    values (
      _add_dimension.dimension_id, _add_dimension.pipeline, _add_dimension.variant,
      _add_dimension.environment, _add_dimension.release, _add_dimension.node,
      (_add_dimension.started_at at time zone 'UTC')::date
    );
  end if;
  return true;
end
$$;

comment on function flywheel._add_dimension(bigint, text, text, text, text, text, timestamptz) is
  'Writes a combination of dimension values unless it can be seen. Always true, so that it can stand in a WHERE.';

-- Equal rates see the same traces, and a smaller rate sees a part of what a larger one sees.
create or replace function flywheel._is_sampled(trace_id uuid, sample_rate double precision)
returns boolean
language sql
immutable
parallel safe
begin atomic
  select (pg_catalog.uuid_hash_extended(trace_id, 0) & 9007199254740991)::double precision
    < sample_rate * 9007199254740992::double precision;
end;

comment on function flywheel._is_sampled(uuid, double precision) is
  'Whether a trace belongs to a sample of this rate: a hash of its id, so the answer never changes.';
