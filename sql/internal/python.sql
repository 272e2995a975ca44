-- Python validators: their code, how a statement calls them, and the circuit breaker.
--
--   create_validator() --_create_python_code()--> _python_<code_id>(), as the caller: a superuser
--   the set's spec (names, params, budgets) --+
--   rows --batches of 1000 rows or 8 MB-------+--> _call_python() --> _run_python() --> verdicts
--
-- One call for a whole batch and all Python validators: a row is handed over once, and a call
-- between SQL and Python costs as much as a check.

-- The code of a Python validator is a function of the catalog, so that PostgreSQL itself decides who
-- may make one; the table's body is only shown. Where the language is missing, a plain function of
-- the schema's owner holds the text for a worker.
create or replace function flywheel._python_source(code_id integer, body text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select format('GD["flywheel_pl"][1].define(%s, %s)', code_id, to_json(body)::text);
$$;

comment on function flywheel._python_source(integer, text) is
  'The text of the function that holds a Python validator''s code.';

create or replace function flywheel._has_python()
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select exists (
    select from pg_proc as p where p.proname = '_run_python' and p.pronamespace = 'flywheel'::regnamespace
  );
$$;

comment on function flywheel._has_python() is 'Whether Python validators can run inside the database.';

-- Not SECURITY DEFINER, nor called by one: it is the caller who makes the function.
create or replace function flywheel._create_python_code(body text)
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_has_python constant boolean := flywheel._has_python();
  v_code_id integer;
begin
  if not (
    select r.rolsuper or not v_has_python and pg_has_role(current_user, n.nspowner, 'usage')
    from pg_roles as r, pg_namespace as n
    where r.rolname = current_user and n.nspname = 'flywheel'
  ) then
    raise exception 'only a superuser may create or change Python code, and % is none', quote_ident(current_user)
      using errcode = '42501',
        hint = 'Python validators run as the server''s operating-system user. Have a superuser create it, or use a built-in check or an SQL validator.';
  end if;
  v_code_id := nextval('flywheel._python_code_id_seq');
  if v_has_python then
    execute format(
      'create function flywheel._python_%s() returns void language plpython3u volatile as %L',
      v_code_id, flywheel._python_source(v_code_id, body)
    );
  else
    execute format(
      'create function flywheel._python_%s() returns text language sql immutable set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as %L',
      v_code_id, format('select %L::text', body)
    );
  end if;
  execute format('revoke all on function flywheel._python_%s() from public', v_code_id);
  execute format('grant execute on function flywheel._python_%s() to flywheel_validator', v_code_id);
  execute format('comment on function flywheel._python_%s() is %L', v_code_id, 'Code of a Python validator.');
  return v_code_id;
end
$$;

comment on function flywheel._create_python_code(text) is
  'Makes the function that holds a Python validator''s code, with the rights of the caller; returns its number.';

-- That the code is what a superuser made, and what the version shows.
create or replace function flywheel._check_python_code(version flywheel._validator_versions)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if not exists (
    select
    from pg_proc as p
    join pg_language as l on l.oid = p.prolang
    join pg_roles as r on r.oid = p.proowner
    where p.proname = '_python_' || version.code_id and p.pronamespace = 'flywheel'::regnamespace
      and case
        when flywheel._has_python() then
          r.rolsuper and l.lanname = 'plpython3u'
          and p.prosrc = flywheel._python_source(version.code_id, version.body)
        else
          flywheel._is_trusted(p.proowner) and l.lanname = 'sql'
          and p.prosrc = format('select %L::text', version.body)
      end
  ) then
    raise exception 'this Python code was not made by a superuser here'
      using errcode = '42501',
        hint = 'Have a superuser give the body to flywheel.create_validator() or flywheel.alter_validator().';
  end if;
end
$$;

comment on function flywheel._check_python_code(flywheel._validator_versions) is
  'Refuses a version whose code is not a function that a superuser made of the very same body.';

create or replace function flywheel._drop_python_code(code_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  if not exists (select from flywheel._validator_versions as v where v.code_id = _drop_python_code.code_id) then
    execute format('drop function if exists flywheel._python_%s()', code_id);
  end if;
end
$$;

comment on function flywheel._drop_python_code(integer) is 'Drops the code of Python validators that no version needs.';

-- What a version reads. Where Python is not at hand nothing can be told beforehand.
create or replace function flywheel._build_python_version(version flywheel._validator_versions)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_columns constant text[] := array(select c.name from flywheel._subject_columns(version.subject) as c);
  v_reads text[] := v_columns;
  v_problem text;
begin
  if version.builtin is not null then
    select array[coalesce(version.params ->> 'side', b.sides[1])]
      || case when b.reads_attributes then array['attributes'] else '{}' end
    into strict v_reads
    from flywheel._builtins() as b
    where b.name = version.builtin;
    if flywheel._has_python() then
      select flywheel._describe_builtin(b.module, version.params::text) into v_problem
      from flywheel._builtins() as b
      where b.name = version.builtin;
      if v_problem is not null then
        raise exception 'the params are refused: %', v_problem
          using errcode = 'LF001', detail = version.params,
            hint = format('select description, params from flywheel.builtin_validators where name = %L', version.builtin);
      end if;
    end if;
  else
    perform flywheel._check_python_code(version);
    if flywheel._has_python() then
      select d.reads, d.problem into v_reads, v_problem from flywheel._describe_python(version.body, v_columns) as d;
      if v_problem is not null then
        raise exception 'the body is refused: %', v_problem
          using errcode = 'LF001', detail = version.body,
            hint = format(
              'Give the body of a Python function of %s that returns True, False or None, (bool, reason), or a dict with the key passed.',
              array_to_string(v_columns, ', ')
            );
      end if;
    end if;
  end if;
  update flywheel._validator_versions as v
  set reads = v_reads
  where v.version_id = version.version_id;
end
$$;

comment on function flywheel._build_python_version(flywheel._validator_versions) is
  'Checks the code of a Python validator version and notes the columns it reads.';

-- Defaults of what a validator may use. A row may take a fifth of time_ms.
create or replace function flywheel._default_budget()
returns jsonb
language sql
immutable
parallel safe
begin atomic
  select '{"time_ms": 500, "memory_mb": 256, "max_chars": 1000000}'::jsonb;
end;

comment on function flywheel._default_budget() is
  'What a Python validator may use: milliseconds a batch, megabytes, characters of a text.';

create or replace function flywheel._check_budget(budget jsonb)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_key text;
  v_value jsonb;
begin
  if budget is null or jsonb_typeof(budget) <> 'object' then
    raise exception 'the budget is not a JSON object'
      using errcode = 'LF001', hint = 'For example: budget => ''{"time_ms": 200}''.';
  end if;
  for v_key, v_value in select e.key, e.value from jsonb_each(budget) as e loop
    if not flywheel._default_budget() ? v_key then
      raise exception 'the budget has the key %', quote_literal(v_key)
        using errcode = 'LF001', hint = 'The keys are time_ms, memory_mb and max_chars.';
    end if;
    if jsonb_typeof(v_value) <> 'number' or not v_value::numeric between 1 and 100000000 then
      raise exception 'the budget''s % is %', v_key, v_value
        using errcode = 'LF001', hint = 'Give a number from 1 to 100000000.';
    end if;
  end loop;
end
$$;

comment on function flywheel._check_budget(jsonb) is 'Refuses a budget with unknown keys or impossible values.';

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
  select
    jsonb_build_object('columns', coalesce(jsonb_agg(jsonb_build_array(c.name, p.kind) order by k.position), '[]')),
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
  into v_spec, v_texts, v_bytes
  from unnest(v_columns) with ordinality as k (name, position)
  join flywheel._subject_columns(v_subject) as c on c.name = k.name,
    lateral flywheel._python_column(c.name, c.type) as p;

  select
    v_spec || jsonb_build_object('validators', jsonb_agg(
      jsonb_build_object(
        'version', v.version_id, 'name', d.name, 'code', v.code_id, 'params', v.params, 'reads', v.reads,
        -- Numbers of code start again when the schema is made again; a session may live longer.
        'function', to_regprocedure(format('flywheel._python_%s()', v.code_id))::oid::bigint,
        'builtin', (select b.module from flywheel._builtins() as b where b.name = v.builtin)
      ) || flywheel._default_budget() || v.budget
      order by v.version_id
    )),
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
  into v_spec, v_masks, v_enforced
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

-- The breaker. Three statements within ten minutes are too many. A validator that rejects is never
-- moved: what it guards would be let in.
create or replace function flywheel._record_breach(version_id integer, error text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_now constant timestamptz := flywheel.now();
begin
  insert into flywheel._breaches (version_id, created_at, error, opens_breaker)
  select v.version_id, v_now, _record_breach.error,
    'reject' not in (v.on_fail, v.on_error)
    and v.mode = 'inline'
    and r.breaches = 2
  from flywheel._validator_versions as v,
    lateral (
      select count(*) as breaches, coalesce(bool_or(b.opens_breaker or b.created_at = v_now), false) as is_known
      from flywheel._breaches as b
      where b.version_id = v.version_id and b.created_at > v_now - interval '10 minutes'
    ) as r
  where v.version_id = _record_breach.version_id
    -- One a transaction is enough to know, and three in ten minutes: the table stays small.
    and r.breaches < 3 and not r.is_known;
  delete from flywheel._breaches as b
  where b.ctid = any (array(
    select o.ctid
    from flywheel._breaches as o
    where o.version_id = _record_breach.version_id and not o.opens_breaker
      and o.created_at < v_now - interval '1 hour'
    for update skip locked
  ));
end
$$;

comment on function flywheel._record_breach(integer, text) is
  'Notes that a validator exceeded its budget; the third time within ten minutes opens its breaker.';

-- Where a version runs now: a Python validator is queued, whatever it asks for, where there is no
-- Python inside the database and while its breaker is open.
create or replace function flywheel._mode_of(version flywheel._validator_versions)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case
    when version.language = 'python' and (
      not flywheel._has_python()
      or exists (
        select from flywheel._breaches as b where b.version_id = version.version_id and b.opens_breaker
      )
    ) then 'queued'
    else version.mode
  end;
$$;

comment on function flywheel._mode_of(flywheel._validator_versions) is
  'inline or queued: where a validator version runs at the moment.';

-- What was enqueued is missing again, so that sweep() decides it.
create or replace function flywheel._close_breaker(version_id integer)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_jobs bigint;
begin
  if exists (select from flywheel._breaches as b where b.version_id = _close_breaker.version_id and b.opens_breaker) then
    delete from flywheel._jobs as j where j.version_id = _close_breaker.version_id;
    get diagnostics v_jobs = row_count;
    if v_jobs > 0 then
      raise notice '% verdicts were enqueued meanwhile', v_jobs
        using hint = 'Run: select * from flywheel.sweep()';
    end if;
  end if;
  delete from flywheel._breaches as b where b.version_id = _close_breaker.version_id;
end
$$;

comment on function flywheel._close_breaker(integer) is
  'Lets a Python validator run inside the INSERT again and takes back its jobs.';
