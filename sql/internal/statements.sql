-- The statements that store what validators find, as text. The compiler writes them into trigger
-- functions; sweep, backfill and dry runs execute them over stored rows (stored_rows.sql).
--
--   _validator_element()   one array element per validator
--   _subject_rows()        the rows to validate, in one shape
--   _verdict_query()       select ... from those rows: one row per verdict
--   _insert_verdicts(), _insert_jobs()

-- One validator of the set: what it evaluates per row. Null where it does not apply.
create or replace function flywheel._validator_element(
  version flywheel._validator_versions, alias text, as_outcome boolean, purpose text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_id constant integer := version.version_id;
  v_call constant text := format('(%s)', flywheel._call_arguments(version.reads, alias, version.params));
  v_element text;
  v_filters text[];
begin
  -- A total check reads only its own columns; score and reason make it a _try function.
  if version.is_total then
    v_element := format('coalesce(flywheel._check_%s%s::pg_catalog.int4, 2)', v_id, v_call);
    if as_outcome then
      v_element := format(
        'row (%s::pg_catalog.int2, null, null, null)::flywheel._outcome', v_element
      );
    end if;
  else
    v_element := format('flywheel._try_%s%s', v_id, v_call);
  end if;

  if purpose = 'insert' and 'reject' in (version.on_fail, version.on_error) then
    v_element := format(
      'flywheel._enforce(%s, %L, %L, %L, %L, %I.trace_id, %s, %I.status)',
      v_element,
      (select d.name from flywheel._validators as d where d.validator_id = version.validator_id),
      version.on_fail, version.on_error, coalesce(version.description, 'not: ' || version.body),
      alias, case version.subject when 'span' then format('%I.span_id', alias) else 'null' end, alias
    );
  end if;

  v_filters := flywheel._version_filters(version, alias, purpose);
  if v_filters <> '{}' then
    v_element := format('case when %s then %s end', array_to_string(v_filters, ' and '), v_element);
  end if;
  return v_element;
end
$$;

comment on function flywheel._validator_element(flywheel._validator_versions, text, boolean, text) is
  'The expression a compiled statement evaluates for one validator and one row.';

-- A gate is asked about every input, and given rows are all meant: they have no trace id to sample by.
create or replace function flywheel._version_filters(version flywheel._validator_versions, alias text, purpose text)
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set extra_float_digits = 1
as $$
  select array_remove(
    array[
      case when version.pipeline is not null then
        format('%I.pipeline operator(pg_catalog.=) %L::pg_catalog.text', alias, version.pipeline)
      end,
      case when version.node is not null then
        format('%I.node operator(pg_catalog.=) %L::pg_catalog.text', alias, version.node)
      end,
      case when version.kind is not null then
        format('%I.kind operator(pg_catalog.=) %L::pg_catalog.text', alias, version.kind)
      end,
      case when version.sample_rate < 1 and purpose not in ('gate', 'given') then
        format('flywheel._is_sampled(%I.trace_id, %s::pg_catalog.float8)', alias, quote_literal(version.sample_rate::text))
      end
    ],
    null
  );
$$;

comment on function flywheel._version_filters(flywheel._validator_versions, text, text) is
  'The conditions under which a validator applies to a row: pipeline, node, kind, sample.';

-- The rows a statement validates, in one shape: the columns of the subject, revision, generation
-- and the dimension. OFFSET 0 keeps the planner from computing the dimension once per verdict.
create or replace function flywheel._subject_rows(subject text, source text, condition text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case subject
    when 'trace' then format(
      $rows$
      select n.trace_id, n.pipeline, n.variant, n.environment, n.release, n.session_id, n.user_id,
        n.input, n.output, n.status, n.started_at, n.ended_at, n.attributes, n.revision,
        flywheel._no_span() as span_id, null::pg_catalog.text as node, null::pg_catalog.text as kind,
        flywheel._dimension_id(n.pipeline, n.variant, n.environment, n.release, null, n.started_at) as dimension_id
      from %s as n
      where %s
      offset 0$rows$, source, condition
    )
    else format(
      $rows$
      select n.trace_id, n.span_id, n.parent_span_id, t.pipeline, t.variant, t.environment, t.release,
        t.session_id, t.user_id, n.node, n.kind, n.input, n.output, n.status, n.started_at, n.ended_at,
        n.model, n.input_tokens, n.output_tokens, n.cost_usd, n.attributes, n.revision,
        flywheel._dimension_id(t.pipeline, t.variant, t.environment, t.release, n.node, n.started_at) as dimension_id
      from %s as n
      left join lateral (
        select t.pipeline, t.variant, t.environment, t.release, t.session_id, t.user_id
        from flywheel.traces as t
        where t.trace_id operator(pg_catalog.=) n.trace_id
        offset 0
      ) as t on true
      where %s
      offset 0$rows$, source, condition
    )
  end;
$$;

comment on function flywheel._subject_rows(text, text, text) is
  'A query giving the rows to validate with the columns validators read, the revision and the dimension.';

-- One row per verdict: (trace_id, span_id, dimension_id, revision, version_id, code, score, reason, error).
-- Each row's results are one array, so a validator costs one expression and no join; the array
-- holds bare codes unless a validator of the set can raise or explains itself.
--
-- The dimension is looked up by a column of its row, not by its key alone: a plain index scan starts
-- 4 microseconds sooner than an index-only scan, which a single-row INSERT notices.
--
-- purpose: 'insert' inside the user's statement, where a rejecting validator raises; 'late' for rows
-- that are stored already; 'try' stores nothing, not even a dimension; 'gate' nor does, nor
-- samples; nor does 'given', for rows that are in no table.
create or replace function flywheel._verdict_query(
  versions integer[], rows_query text, purpose text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_plain boolean;
  v_ids text;
  v_elements text;
begin
  select bool_and(v.is_total and not (purpose = 'insert' and 'reject' in (v.on_fail, v.on_error)))
  into v_plain
  from flywheel._validator_versions as v
  where v.version_id = any (versions);

  select
    string_agg(v.version_id::text, ', ' order by v.version_id),
    string_agg(E'\n          ' || flywheel._validator_element(v, 'n', not v_plain, purpose), ',' order by v.version_id)
  into v_ids, v_elements
  from flywheel._validator_versions as v
  where v.version_id = any (versions);

  return format(
    $query$
    select v.trace_id, v.span_id, v.dimension_id, v.revision, v.version_id, %1$s
    from (
      select n.trace_id, n.span_id, n.dimension_id, n.revision,
        pg_catalog.unnest('{%2$s}'::pg_catalog.int4[]) as version_id,
        pg_catalog.unnest(array[%3$s
        ]::%4$s[]) as %5$s
      from (%6$s
      ) as n%8$s
    ) as v
    where %7$s is not null$query$,
    case
      when v_plain then 'v.code, null::pg_catalog.float8 as score, null::pg_catalog.text as reason, null::pg_catalog.text as error'
      else '(v.outcome).code, (v.outcome).score, (v.outcome).reason, (v.outcome).error'
    end,
    v_ids,
    v_elements,
    case when v_plain then 'pg_catalog.int4' else 'flywheel._outcome' end,
    case when v_plain then 'code' else 'outcome' end,
    rows_query,
    case when v_plain then 'v.code' else '(v.outcome).code' end,
    flywheel._dimension_condition(purpose)
  );
end
$$;

comment on function flywheel._verdict_query(integer[], text, text) is
  'A query giving one row per verdict of these validator versions over these rows.';

-- Stored verdicts need their dimension: looked up for each row, written where it is new.
create or replace function flywheel._dimension_condition(purpose text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case when purpose in ('insert', 'late') then $dimension$
      where (
        select d.day is not null
        from flywheel._dimensions as d
        where d.dimension_id operator(pg_catalog.=) n.dimension_id
        limit 1
      ) or flywheel._add_dimension(
        n.dimension_id, n.pipeline, n.variant, n.environment, n.release, n.node, n.started_at
      )$dimension$ else '' end;
$$;

comment on function flywheel._dimension_condition(text) is
  'The condition, always true, that writes the dimensions of rows whose verdicts are stored.';

create or replace function flywheel._add_dimensions(rows_query text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format(
    $statement$select flywheel._add_dimension(
      n.dimension_id, n.pipeline, n.variant, n.environment, n.release, n.node, pg_catalog.min(n.started_at)
    )
    from (%s
    ) as n
    group by n.dimension_id, n.pipeline, n.variant, n.environment, n.release, n.node$statement$,
    rows_query
  );
$$;

comment on function flywheel._add_dimensions(text) is
  'The statement that writes the combinations of dimension values of these rows, each once.';

-- The status a code stands for, as one expression used by every statement that writes or shows verdicts.
create or replace function flywheel._status_of(code integer)
returns text
language sql
immutable
parallel safe
begin atomic
  select case when code = 1 then 'passed' when code = 0 then 'failed' when code = 2 then 'skipped' else 'error' end;
end;

comment on function flywheel._status_of(integer) is 'The status an outcome''s code stands for.';

-- Python says more than code, score, reason and error.
create or replace function flywheel._insert_verdicts(verdict_query text, created_at text, is_python boolean default false)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format(
    $statement$insert into flywheel._verdicts (
      trace_id, span_id, dimension_id, created_at, version_id, revision, status, score, reason, error%3$s
    )
    select q.trace_id, q.span_id, q.dimension_id, %2$s, q.version_id, q.revision,
      flywheel._status_of(q.code), q.score, q.reason, q.error%4$s
    from (%1$s
    ) as q$statement$,
    verdict_query, created_at,
    case when is_python then ', skipped_reason, predicted_label, confidence, details' else '' end,
    case when is_python then ', q.skipped_reason, q.predicted_label, q.confidence, q.details' else '' end
  );
$$;

comment on function flywheel._insert_verdicts(text, text, boolean) is 'The statement that stores the rows of a verdict query.';

-- Where a verdict may be there already: late, or written by somebody the deleting snapshot could not
-- see. Under REPEATABLE READ the latter is then a serialization failure, which can be retried.
create or replace function flywheel._replace_verdicts()
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select $statement$
    on conflict (trace_id, span_id, version_id) do update
    set revision = excluded.revision, dimension_id = excluded.dimension_id, created_at = excluded.created_at,
      status = excluded.status, score = excluded.score, reason = excluded.reason, error = excluded.error,
      skipped_reason = excluded.skipped_reason, duration_ms = excluded.duration_ms,
      confidence = excluded.confidence, predicted_label = excluded.predicted_label, details = excluded.details
    where flywheel._verdicts.revision operator(pg_catalog.<) excluded.revision$statement$;
$$;

comment on function flywheel._replace_verdicts() is 'The clause by which a verdict about a newer revision replaces one about an older.';

create or replace function flywheel._replace_jobs()
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select $statement$
    on conflict (trace_id, span_id, version_id) do update
    set revision = excluded.revision, created_at = excluded.created_at, state = 'pending',
      run_at = excluded.run_at, priority = excluded.priority, attempts = 0, token = null, leased_until = null,
      worker = null, error_class = null, last_error = null
    where flywheel._jobs.revision operator(pg_catalog.<) excluded.revision$statement$;
$$;

comment on function flywheel._replace_jobs() is 'The clause by which a job about a newer revision replaces one about an older.';

-- With only_paused, versions that run inline: those whose breaker is open are enqueued instead.
create or replace function flywheel._insert_jobs(
  versions integer[], rows_query text, created_at text, only_paused boolean default false, priority integer default 0
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format(
    $statement$insert into flywheel._jobs (trace_id, span_id, version_id, revision, created_at, run_at, priority)
    select j.trace_id, j.span_id, j.version_id, j.revision, %3$s, %3$s, %5$s
    from (
      select n.trace_id, n.span_id, n.revision, pg_catalog.unnest(array[%1$s]::pg_catalog.int4[]) as version_id
      from (%2$s
      ) as n
    ) as j
    where j.version_id is not null%4$s$statement$,
    string_agg(
      case when cardinality(f.filters) = 0 then v.version_id::text
      else format('case when %s then %s end', array_to_string(f.filters, ' and '), v.version_id) end,
      ', ' order by v.version_id
    ),
    _insert_jobs.rows_query,
    _insert_jobs.created_at,
    case when only_paused then
      ' and j.version_id operator(pg_catalog.=) any (array(select b.version_id from flywheel._breaches as b where b.opens_breaker))'
    else '' end,
    _insert_jobs.priority
  )
  from flywheel._validator_versions as v, lateral flywheel._version_filters(v, 'n', 'insert') as f (filters)
  where v.version_id = any (versions);
$$;

comment on function flywheel._insert_jobs(integer[], text, text, boolean, integer) is
  'The statement that enqueues these queued validator versions for the rows they apply to.';
