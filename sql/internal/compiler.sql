-- The compiler: the enabled validators become one static, set-based statement per table.
--
--   _validator_versions --_verdict_query(), _insert_jobs()--> statements      (statements.sql)
--                       --_compile()--------------------------> the bodies of
--        _tg_traces__validate_inserted   _tg_traces__validate_updated
--        _tg_spans__validate_inserted    _tg_spans__validate_updated    _gate
--
-- Enabling a validator replaces function bodies, which blocks nobody; triggers are made once.
--
-- The compiled functions are SECURITY DEFINER and owned by flywheel_validator. They carry no SET
-- clause, which costs a single-row INSERT 15 % and more; instead every name in them, operators
-- included, is qualified, and the validators' own expressions were bound when they were created.

-- A set of a few statements over the rows of one trigger call. Planned once per session while the
-- call is small, so the plan is one for small calls; a large call is planned for its own size.
create or replace function flywheel._compiled_body(
  subject text, generation integer, inline_versions integer[], python_versions integer[], knn_versions integer[],
  queued_versions integer[], updated boolean, adopt text default ''
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  -- What an UPDATE changed, as _tg_targets__revise() marked it.
  v_changed constant text := 'n.revised_at operator(pg_catalog.=) pg_catalog.statement_timestamp()';
  v_table constant text := case subject when 'trace' then 'traces' else 'spans' end;
  v_rows constant text := flywheel._subject_rows(
    subject, 'new_rows',
    case when updated
      then v_changed
      else 'true'
    end
  );
  v_now constant text := 'flywheel.now()';
  v_statements text[] := array[]::text[];
  v_statement text;
  v_paused text;
  v_body text;
begin
  if inline_versions <> '{}' then
    v_statements := v_statements || (flywheel._insert_verdicts(
      flywheel._verdict_query(inline_versions, v_rows, purpose => 'insert'), v_now
    ) || case when updated then flywheel._replace_verdicts() else '' end);
  end if;
  if python_versions <> '{}' then
    v_statements := v_statements || (flywheel._insert_verdicts(
      flywheel._python_query(python_versions, v_rows, purpose => 'insert'), v_now, is_python => true
    ) || case when updated then flywheel._replace_verdicts() else '' end);
    v_paused := flywheel._insert_jobs(python_versions, v_rows, v_now, only_paused => true)
      || case when updated then flywheel._replace_jobs() else '' end;
  end if;
  if knn_versions <> '{}' then
    v_statements := v_statements || (flywheel._insert_verdicts(
      flywheel._knn_query(knn_versions, v_rows, purpose => 'insert'), v_now, is_python => true
    ) || case when updated then flywheel._replace_verdicts() else '' end);
  end if;
  if queued_versions <> '{}' then
    v_statements := v_statements || (flywheel._insert_jobs(queued_versions, v_rows, v_now)
      || case when updated then flywheel._replace_jobs() else '' end);
  end if;

  -- Whether the statement is a large one, and whether its rows carry this generation. One statement
  -- has one default, so its first rows speak for all, and a large one is not read twice.
  v_body := format(
    $body$
-- Generation %1$s of the validator set: %2$s in SQL, %6$s in Python, %3$s queued%7$s. Written by flywheel._compile().
declare
  v_rows pg_catalog.int8;
  v_restamp pg_catalog.int8;%5$s
begin
  select pg_catalog.count(*), pg_catalog.count(*) filter (where n.generation operator(pg_catalog.<>) %1$s)
  into v_rows, v_restamp
  from (select n.generation from new_rows as n%4$s limit 1001) as n;
  if v_rows operator(pg_catalog.=) 0 then
    return null;
  end if;
$body$,
    generation, cardinality(inline_versions), cardinality(queued_versions),
    case when updated then ' where ' || v_changed end,
    case
      when updated then E'\n  v_trace_ids pg_catalog.uuid[];\n  v_span_ids pg_catalog.uuid[];'
      when adopt <> '' then E'\n  v_adopted pg_catalog.uuid[];'
    end,
    cardinality(python_versions),
    case when knn_versions <> '{}' then format(', %s by neighbours', cardinality(knn_versions)) end
  );

  -- Rows stamped by a default that was planned before, or read after, this body was replaced.
  v_body := v_body || format(
    $body$  if v_restamp operator(pg_catalog.>) 0 then
    update flywheel.%1$I as s
    set generation = %2$s
    from new_rows as n
    where %3$s
      and n.generation operator(pg_catalog.<>) %2$s%4$s;
  end if;
$body$,
    v_table, generation,
    case subject
      when 'trace' then 's.trace_id operator(pg_catalog.=) n.trace_id'
      else E's.trace_id operator(pg_catalog.=) n.trace_id\n      and s.span_id operator(pg_catalog.=) n.span_id'
    end,
    case when updated then E'\n      and ' || v_changed end
  );

  if updated then
    v_body := v_body || format(
      $body$  -- A new revision's verdicts replace those of the old one.
  select pg_catalog.array_agg(n.trace_id), pg_catalog.array_agg(%1$s)
  into v_trace_ids, v_span_ids
  from new_rows as n
  where %2$s;
  delete from flywheel._verdicts as v
  using rows from (pg_catalog.unnest(v_trace_ids), pg_catalog.unnest(v_span_ids)) as k (trace_id, span_id)
  where v.trace_id operator(pg_catalog.=) k.trace_id
    and v.span_id operator(pg_catalog.=) k.span_id;
  delete from flywheel._jobs as j
  using rows from (pg_catalog.unnest(v_trace_ids), pg_catalog.unnest(v_span_ids)) as k (trace_id, span_id)
  where j.trace_id operator(pg_catalog.=) k.trace_id
    and j.span_id operator(pg_catalog.=) k.span_id;
$body$,
      case subject when 'trace' then 'flywheel._no_span()' else 'n.span_id' end,
      v_changed
    );
  end if;

  -- What is labelled may change, whatever the policy.
  if subject = 'trace' and (updated or (select p.policy <> 'labelled' from flywheel._index_policy as p)) then
    v_body := v_body || format(
      $body$  -- Their vectors are made in the background (embed_texts()).
  if v_rows operator(pg_catalog.<=) 1000 then
    insert into flywheel._arrivals (arrived_at, trace_ids)
    values (flywheel.now(), array(select n.trace_id from new_rows as n%1$s));
  else
    insert into flywheel._arrivals (arrived_at, trace_ids)
    select flywheel.now(), pg_catalog.array_agg(n.trace_id)
    from (
      select n.trace_id, pg_catalog.row_number() over () operator(pg_catalog./) 1000 as part
      from new_rows as n%1$s
    ) as n
    group by n.part;
  end if;
$body$,
      case when updated then E'\n    where ' || v_changed end
    );
  end if;

  -- Before they run: what opens the breaker in this very statement has its verdict.
  if v_paused is not null then
    v_body := v_body || format(
      E'  if exists (select from flywheel._breaches as b where b.opens_breaker) then\n    %s;\n  end if;\n', v_paused
    );
  end if;
  if v_statements <> '{}' then
    v_body := v_body || E'  if v_rows operator(pg_catalog.<=) 1000 then\n';
    foreach v_statement in array v_statements loop
      v_body := v_body || format(E'    %s;\n', v_statement);
    end loop;
    v_body := v_body || E'  else\n';
    if inline_versions <> '{}' or python_versions <> '{}' or knn_versions <> '{}' then
      -- Or each row of the first large statement of a day would try it on its own. What comes only
      -- later in the statement does.
      v_body := v_body || format(E'    execute %L;\n', flywheel._add_dimensions(format('select r.* from (%s) as r limit 1000', v_rows)));
    end if;
    foreach v_statement in array v_statements loop
      v_body := v_body || format(E'    execute %L;\n', v_statement);
    end loop;
    v_body := v_body || E'  end if;\n';
  end if;
  return v_body || adopt || E'  return null;\nend\n';
end
$$;

comment on function flywheel._compiled_body(text, integer, integer[], integer[], integer[], integer[], boolean, text) is
  'The body of a compiled trigger function.';

create or replace function flywheel._replace_compiled(signature text, returns text, body text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  execute format(
    'create or replace function flywheel.%s returns %s language plpgsql volatile security definer as %L',
    signature, returns, body
  );
end
$$;

comment on function flywheel._replace_compiled(text, text, text) is
  'Replaces the body of a compiled function. Its owner stays (privileges.sql gives it to flywheel_validator).';

-- Callers hold the lock of _begin_change().
create or replace function flywheel._compile()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_generation integer;
  v_trace_inline integer[];
  v_trace_python integer[];
  v_trace_knn integer[];
  v_trace_queued integer[];
  v_span_inline integer[];
  v_span_python integer[];
  v_span_knn integer[];
  v_span_queued integer[];
  v_gate integer[];
  v_gate_python integer[];
  v_gate_knn integer[];
  v_has_python constant boolean := flywheel._has_python();
  v_adopt text := '';
begin
  select s.generation into strict v_generation from flywheel._validator_set as s;

  select
    coalesce(array_agg(v.version_id) filter (where v.subject = 'trace' and k.kind = 'sql'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'trace' and k.kind = 'python'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'trace' and k.kind = 'knn'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'trace' and k.kind = 'queued'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'span' and k.kind = 'sql'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'span' and k.kind = 'python'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'span' and k.kind = 'knn'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'span' and k.kind = 'queued'), '{}'),
    coalesce(array_agg(v.version_id) filter (where k.is_gate and k.kind = 'sql'), '{}'),
    coalesce(array_agg(v.version_id) filter (where k.is_gate and k.kind = 'python'), '{}'),
    coalesce(array_agg(v.version_id) filter (where k.is_gate and k.kind = 'knn'), '{}')
  into v_trace_inline, v_trace_python, v_trace_knn, v_trace_queued, v_span_inline, v_span_python, v_span_knn, v_span_queued,
    v_gate, v_gate_python, v_gate_knn
  from flywheel._validator_versions as v,
    lateral (
      select
        case when v.mode = 'queued' or v.language = 'python' and not v_has_python then 'queued' else v.language end,
        -- What can be asked before there is an output.
        v.subject = 'trace' and not v.reads && array['output', 'ended_at', 'status']
    ) as k (kind, is_gate)
  where v.active_generations @> v_generation;

  -- Spans that came before their trace were judged without its pipeline.
  if exists (select from flywheel._validator_versions as v where v.subject = 'span') then
    v_adopt := $body$  v_adopted := array(
    select n.trace_id
    from new_rows as n
    where exists (select from flywheel.spans as s where s.trace_id operator(pg_catalog.=) n.trace_id offset 0)
  );
  if v_adopted operator(pg_catalog.<>) '{}'::pg_catalog.uuid[] then
    perform flywheel._revalidate_spans(v_adopted);
  end if;
$body$;
  end if;

  execute format(
    'create or replace function flywheel._generation() returns integer language sql stable parallel safe begin atomic select %s; end',
    v_generation
  );
  perform flywheel._replace_compiled(
    '_tg_traces__validate_inserted()', 'trigger',
    flywheel._compiled_body('trace', v_generation, v_trace_inline, v_trace_python, v_trace_knn, v_trace_queued, false, v_adopt)
  );
  perform flywheel._replace_compiled(
    '_tg_traces__validate_updated()', 'trigger',
    flywheel._compiled_body('trace', v_generation, v_trace_inline, v_trace_python, v_trace_knn, v_trace_queued, true)
  );
  perform flywheel._replace_compiled(
    '_tg_spans__validate_inserted()', 'trigger',
    flywheel._compiled_body('span', v_generation, v_span_inline, v_span_python, v_span_knn, v_span_queued, false)
  );
  perform flywheel._replace_compiled(
    '_tg_spans__validate_updated()', 'trigger',
    flywheel._compiled_body('span', v_generation, v_span_inline, v_span_python, v_span_knn, v_span_queued, true)
  );
  perform flywheel._replace_compiled(
    '_gate(trace_id uuid, pipeline text, user_id text, input text, attributes jsonb)',
    'table (version_id integer, code integer, score double precision, reason text, error text)',
    flywheel._gate_body(v_gate, v_gate_python, v_gate_knn)
  );
end
$$;

comment on function flywheel._compile() is
  'Writes the current validator set into the compiled functions: one static statement per table.';

-- After an upgrade: what is made per validator is made by the new release's templates.
create or replace function flywheel._recompile()
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  perform flywheel._build_try(v.version_id)
  from flywheel._validator_versions as v
  where flywheel._call_of(format('_check_%s', v.version_id)) is not null;
  perform flywheel._compile();
  perform flywheel._recompile_metrics();
end
$$;

comment on function flywheel._recompile() is
  'Writes every function that is made per validator, and the compiled ones, anew.';

create or replace function flywheel._gate_body(versions integer[], python_versions integer[], knn_versions integer[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select E'#variable_conflict use_column\nbegin\n' || coalesce(
    string_agg(
      format(
        E'  return query select q.version_id, q.code::pg_catalog.int4, q.score, q.reason, q.error from (%s\n  ) as q;\n', q.query
      ), ''
    ), ''
  ) || E'  return;\nend\n'
  from (values ($rows$
      select $1 as trace_id, flywheel._no_span() as span_id, $2 as pipeline,
        null::pg_catalog.text as variant, null::pg_catalog.text as environment, null::pg_catalog.text as release,
        null::pg_catalog.text as session_id, null::pg_catalog.text as node,
        $3 as user_id, $4 as input, $5 as attributes,
        flywheel.now() as started_at, 1 as revision,
        flywheel._dimension_id($2, null, null, null, null, flywheel.now()) as dimension_id
      offset 0$rows$)) as r (row),
    lateral (
      select flywheel._verdict_query(versions, r.row, purpose => 'gate') where versions <> '{}'
      union all
      select flywheel._python_query(python_versions, r.row, purpose => 'gate') where python_versions <> '{}'
      union all
      select flywheel._knn_query(knn_versions, r.row, purpose => 'gate') where knn_versions <> '{}'
    ) as q (query);
$$;

comment on function flywheel._gate_body(integer[], integer[], integer[]) is
  'Body of the compiled gate: these validator versions, in SQL, in Python and by neighbours, over one input.';

-- Every change of the set starts here: the lock first, then the row, and only then may the
-- catalog be read. Under REPEATABLE READ the second of two admins fails on the row instead of
-- compiling a set that lacks the other's validator.
create or replace function flywheel._begin_change()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_generation integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('flywheel._validator_set', 0));
  update flywheel._validator_set as s
  set generation = s.generation + 1
  returning s.generation into v_generation;
  return v_generation;
exception when serialization_failure then
  raise exception 'the validator set was changed by someone else meanwhile'
    using errcode = '40001', hint = 'Run the transaction again.';
end
$$;

comment on function flywheel._begin_change() is
  'Locks the validator set for this transaction and starts its next generation.';
