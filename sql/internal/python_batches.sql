-- Python validators: their code, how a statement calls them, and the circuit breaker.
--
--   create_validator() --_create_python_code()--> _python_<code_id>(), as the caller: a superuser
--   the set's spec (names, params, budgets) --+
--   rows --batches of 1000 rows or 8 MB-------+--> _call_python() --> _run_python() --> verdicts
--
-- One call for a whole batch and all Python validators: a row is handed over once, and a call
-- between SQL and Python costs as much as a check.

-- How a column is handed to Python: as text, with a kind that says what becomes of it there.
create or replace function flywheel._python_column(name text, type text, out kind text, out expression text)
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select
    case type
      when 'jsonb' then 'json' when 'timestamptz' then 'timestamp' when 'integer' then 'integer'
      when 'numeric' then 'number' else 'text'
    end,
    case type
      when 'text' then format('n.%I', name)
      when 'timestamptz' then format(
        $e$pg_catalog.to_char(pg_catalog.timezone('UTC', n.%I), 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')$e$, name
      )
      else format('n.%I::pg_catalog.text', name)
    end;
$$;

comment on function flywheel._python_column(text, text) is
  'The kind of value a column becomes in Python, and the expression that hands it over as text.';

-- What flywheel_pl.runtime is told of a set: the columns in their order, the validators by their ids.
create or replace function flywheel._python_spec(versions integer[], columns text[])
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select jsonb_build_object(
    'columns', (
      select coalesce(jsonb_agg(jsonb_build_array(c.name, p.kind) order by k.position), '[]')
      from unnest(columns) with ordinality as k (name, position)
      join flywheel._subject_columns((
        select min(v.subject) from flywheel._validator_versions as v where v.version_id = any (versions)
      )) as c on c.name = k.name,
        lateral flywheel._python_column(c.name, c.type) as p
    ),
    'validators', (
      select jsonb_agg(
        jsonb_build_object(
          'version', v.version_id, 'name', d.name, 'code', v.code_id, 'params', v.params, 'reads', v.reads,
          -- Numbers of code start again when the schema is made again; a session may live longer.
          'function', to_regprocedure(format('flywheel._python_%s()', v.code_id))::oid::bigint,
          'builtin', (select b.module from flywheel._builtins() as b where b.name = v.builtin)
        ) || flywheel._default_budget() || v.budget
        order by v.version_id
      )
      from flywheel._validator_versions as v
      join flywheel._validators as d on d.validator_id = v.validator_id
      where v.version_id = any (versions)
    )
  );
$$;

comment on function flywheel._python_spec(integer[], text[]) is
  'What the Python runtime is told of a set of validators: the columns it is given and the validators.';

-- Batches end at 1000 rows or 8 MB of text. Rows are read once; each batch is a row of arrays.
create or replace function flywheel._python_query(versions integer[], rows_query text, purpose text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_subject text;
  v_columns text[];
  v_spec jsonb;
  v_texts text;
  v_bytes text;
  v_masks text;
  v_enforced text;
  v_cap bigint;
begin
  select min(v.subject), max(((flywheel._default_budget() || v.budget) ->> 'max_chars')::numeric::bigint)
  into v_subject, v_cap
  from flywheel._validator_versions as v
  where v.version_id = any (versions);

  v_columns := array(
    select c.name
    from flywheel._subject_columns(v_subject) as c
    where c.name <> 'params' and exists (
      select from flywheel._validator_versions as v where v.version_id = any (versions) and c.name = any (v.reads)
    )
  );
  v_spec := flywheel._python_spec(versions, v_columns);
  select
    -- Far more text than any may read is not handed over: a character more tells that it is too long.
    string_agg(
      case when c.type = 'text' then
        format(
          'pg_catalog.array_agg(case when pg_catalog.octet_length(%1$s) operator(pg_catalog.>) %2$s then pg_catalog.left(%1$s, %3$s) else %1$s end)',
          p.expression, v_cap * 4, v_cap + 1
        )
      else format('pg_catalog.array_agg(%s)', p.expression) end,
      ', ' order by k.position
    ),
    string_agg(
      format('coalesce(pg_catalog.octet_length(%s), 0)', p.expression), ' operator(pg_catalog.+) ' order by k.position
    ) filter (where c.type in ('text', 'jsonb'))
  into v_texts, v_bytes
  from unnest(v_columns) with ordinality as k (name, position)
  join flywheel._subject_columns(v_subject) as c on c.name = k.name,
    lateral flywheel._python_column(c.name, c.type) as p;

  select
    string_agg(
      case when cardinality(f.filters) = 0 then 'null'
      else format(
        'pg_catalog.string_agg(case when %s then ''1'' else ''0'' end, '''')', array_to_string(f.filters, ' and ')
      ) end,
      ', ' order by v.version_id
    ),
    string_agg(
      format(
        E'\n        when %s then (flywheel._enforce(row (q.code, q.score, q.reason, q.error)::flywheel._outcome, %L, %L, %L, %L, q.trace_ids[q.n], %s, q.statuses[q.n])).code',
        v.version_id, d.name, v.on_fail, v.on_error,
        coalesce(v.description, 'see the body of the validator'),
        case v.subject when 'span' then 'q.span_ids[q.n]' else 'null' end
      ), ''
    ) filter (where purpose = 'insert' and 'reject' in (v.on_fail, v.on_error))
  into v_masks, v_enforced
  from flywheel._validator_versions as v
  join flywheel._validators as d on d.validator_id = v.validator_id,
    lateral flywheel._version_filters(v, 'n', purpose) as f (filters)
  where v.version_id = any (versions);

  return format(
    $query$
    select q.trace_ids[q.n] as trace_id, q.span_ids[q.n] as span_id, q.dimension_ids[q.n] as dimension_id,
      q.revisions[q.n] as revision, q.version_id, %8$s as code, q.score, q.reason, q.error,
      q.skipped as skipped_reason, q.label as predicted_label, q.confidence, q.details::pg_catalog.jsonb as details
    from (
      select p.*, p.i operator(pg_catalog./) %2$s operator(pg_catalog.+) 1 as n,
        ('{%1$s}'::pg_catalog.int4[])[p.i operator(pg_catalog.%%) %2$s operator(pg_catalog.+) 1] as version_id,
        pg_catalog.get_byte(p.codes, p.i)::pg_catalog.int2 as code
      from (
        select b.trace_ids, b.span_ids, b.dimension_ids, b.revisions, b.statuses, r.codes,
          pg_catalog.generate_series(0, b.row_count operator(pg_catalog.*) %2$s operator(pg_catalog.-) 1) as i,
          pg_catalog.unnest(r.scores) as score, pg_catalog.unnest(r.reasons) as reason,
          pg_catalog.unnest(r.errors) as error, pg_catalog.unnest(r.skipped) as skipped,
          pg_catalog.unnest(r.labels) as label, pg_catalog.unnest(r.confidences) as confidence,
          pg_catalog.unnest(r.details) as details
        from (
          select pg_catalog.array_agg(n.trace_id) as trace_ids, pg_catalog.array_agg(n.span_id) as span_ids,
            pg_catalog.array_agg(n.dimension_id) as dimension_ids, pg_catalog.array_agg(n.revision) as revisions,
            %9$s as statuses,
            pg_catalog.count(*)::pg_catalog.int4 as row_count,
            %4$s as texts, %5$s as masks
          from (
            select n.*,
              (pg_catalog.row_number() over (rows unbounded preceding) operator(pg_catalog.-) 1) operator(pg_catalog./) 1000 as batch,
              pg_catalog.sum(%6$s) over (rows unbounded preceding) operator(pg_catalog./) 8388608 as megabytes
            from (%7$s
            ) as n
          ) as n%10$s
          group by n.batch, n.megabytes
        ) as b,
        lateral flywheel._call_python(%3$L, b.texts, b.row_count, b.masks, '{%1$s}', %11$L) as r
      ) as p
    ) as q
    where q.code operator(pg_catalog.<>) 255::pg_catalog.int2$query$,
    (select string_agg(v::text, ',' order by v) from unnest(versions) as v),
    cardinality(versions),
    v_spec::text,
    coalesce('array[' || v_texts || ']', 'null::pg_catalog.text[]'),
    case when v_masks ~ 'string_agg' then format('array[%s]::pg_catalog.text[]', v_masks) else 'null::pg_catalog.text[]' end,
    coalesce(v_bytes, '0'),
    rows_query,
    case when v_enforced is null then 'q.code' else format('case q.version_id%s else q.code end', v_enforced) end,
    case when v_enforced is null then 'null::pg_catalog.text[]' else 'pg_catalog.array_agg(n.status)' end,
    flywheel._dimension_condition(purpose),
    purpose
  );
end
$$;

comment on function flywheel._python_query(integer[], text, text) is
  'A query giving one row per verdict of these Python validator versions over these rows, run in batches.';

-- Whatever happens in the call is an error verdict, and the statement goes on. The block writes
-- nothing, so its subtransaction has no id; a breach is recorded outside of it.
create or replace function flywheel._call_python(
  spec text, texts text[], row_count integer, masks text[], versions integer[], purpose text
)
returns flywheel._python_results
language plpgsql
volatile
as $$
declare
  v_results flywheel._python_results;
  v_records constant pg_catalog.bool := purpose operator(pg_catalog.<>) 'try' and purpose operator(pg_catalog.<>) 'given';
  v_paused constant pg_catalog.int4[] := array(
    select b.version_id from flywheel._breaches as b where b.opens_breaker and v_records
  );
begin
  begin
    v_results := flywheel._run_python(
      spec, texts, row_count, masks, v_paused,
      pg_catalog.date_part('epoch', pg_catalog.statement_timestamp())
    );
    -- What cannot be stored fails here, and not where it is stored.
    if v_results.details is not null then
      perform v_results.details::pg_catalog.jsonb[];
    end if;
  exception when others or assert_failure then
    v_results := flywheel._python_failure(row_count, masks, versions, v_paused, sqlerrm);
  end;
  -- A gate may be asked in a read-only transaction. The note is worth no statement of anybody's.
  if v_results.breaches is not null and v_records then
    begin
      perform flywheel._record_breach(b.version_id, b.error)
      from rows from (pg_catalog.unnest(v_results.breaches), pg_catalog.unnest(v_results.breach_errors)) as b (version_id, error);
    exception when others then
      raise debug 'the breach was not noted: %', sqlerrm;
    end;
  end if;
  return v_results;
end
$$;

comment on function flywheel._call_python(text, text[], integer, text[], integer[], text) is
  'Calls a set of Python validators for a batch; a failure of the call is an error verdict for each row.';

create or replace function flywheel._python_failure(
  row_count integer, masks text[], versions integer[], paused integer[], message text
)
returns flywheel._python_results
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select row (
    decode(
      string_agg(
        case
          when versions[k] = any (paused) or substr(masks[k], n, 1) = '0' then 'ff' else '03'
        end,
        '' order by n, k
      ),
      'hex'
    ),
    null, null, array_fill(left(message, 1000), array[row_count * cardinality(versions)]), null, null, null, null, null, null
  )::flywheel._python_results
  from generate_series(1, row_count) as n, generate_series(1, cardinality(versions)) as k;
$$;

comment on function flywheel._python_failure(integer, text[], integer[], integer[], text) is
  'The results of a batch whose call failed: an error for each row and validator.';
