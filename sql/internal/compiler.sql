-- The compiler: the enabled validators become one static, set-based statement per table.
--
--   _validator_versions --_validator_elements()--> one array element per validator
--                       --_verdict_query()-------> select ... from <rows>: one row per verdict
--                       --_compile()-------------> the bodies of
--        _tg_traces__validate_inserted   _tg_traces__validate_updated
--        _tg_spans__validate_inserted    _tg_spans__validate_updated    _gate
--
-- Enabling a validator replaces function bodies, which blocks nobody; triggers are made once.
--
-- The compiled functions are SECURITY DEFINER and owned by flywheel_validator. They carry no SET
-- clause, which costs a single-row INSERT 15 % and more; instead every name in them, operators
-- included, is qualified, and the validators' own expressions were bound when they were created.

-- One validator of the set: what it evaluates per row. Null where it does not apply.
create or replace function flywheel._validator_element(
  version flywheel._validator_versions, alias text, as_outcome boolean, enforce boolean
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
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

  if enforce and 'reject' in (version.on_fail, version.on_error) then
    v_element := format(
      'flywheel._enforce(%s, %s, %I.trace_id, %s, %I.status)',
      v_element, v_id, alias, case version.subject when 'span' then format('%I.span_id', alias) else 'null' end, alias
    );
  end if;

  v_filters := flywheel._version_filters(version, alias);
  if v_filters <> '{}' then
    v_element := format('case when %s then %s end', array_to_string(v_filters, ' and '), v_element);
  end if;
  return v_element;
end
$$;

comment on function flywheel._validator_element(flywheel._validator_versions, text, boolean, boolean) is
  'The expression a compiled statement evaluates for one validator and one row.';

create or replace function flywheel._version_filters(version flywheel._validator_versions, alias text)
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
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
      case when version.sample_rate < 1 then
        format('flywheel._is_sampled(%I.trace_id, %s::pg_catalog.float8)', alias, quote_literal(version.sample_rate::text))
      end
    ],
    null
  );
$$;

comment on function flywheel._version_filters(flywheel._validator_versions, text) is
  'The conditions under which a validator applies to a row: pipeline, node, kind, sample.';

-- Called by a compiled statement for a validator that may reject. A row that is already marked as
-- blocked was refused before the LLM was called: keeping its history is the point of the row.
create or replace function flywheel._enforce(
  outcome flywheel._outcome, version_id integer, trace_id uuid, span_id uuid, status text
)
returns flywheel._outcome
language plpgsql
stable
as $$
declare
  v_validator record;
begin
  if status operator(pg_catalog.=) 'blocked' then
    return outcome;
  end if;
  if outcome.code operator(pg_catalog.=) 0 or outcome.code operator(pg_catalog.=) 3 then
    select d.name, v.on_fail, v.on_error, v.description into strict v_validator
    from flywheel._validator_versions as v
    join flywheel._validators as d on d.validator_id operator(pg_catalog.=) v.validator_id
    where v.version_id operator(pg_catalog.=) _enforce.version_id;

    if (outcome.code operator(pg_catalog.=) 0 and v_validator.on_fail operator(pg_catalog.=) 'reject')
      or (outcome.code operator(pg_catalog.=) 3 and v_validator.on_error operator(pg_catalog.=) 'reject') then
      raise exception 'the validator "%" rejects %',
        v_validator.name,
        case
          when span_id is null then pg_catalog.format('trace %s', trace_id)
          else pg_catalog.format('span %s of trace %s', span_id, trace_id)
        end
        using errcode = 'LF010',
          detail = coalesce(outcome.reason, outcome.error, v_validator.description, 'The check failed.'),
          hint = 'Nothing of the statement was stored. Correct the row, or set the validator to on_fail => ''record''.',
          schema = 'flywheel',
          table = case when span_id is null then 'traces' else 'spans' end,
          constraint = v_validator.name;
    end if;
  end if;
  return outcome;
end
$$;

comment on function flywheel._enforce(flywheel._outcome, integer, uuid, uuid, text) is
  'Raises LF010 if a rejecting validator failed on a row that is not blocked already; otherwise passes the outcome on.';

-- The rows a statement validates, in one shape: the columns of the subject, revision, generation
-- and the dimension. OFFSET 0 keeps the planner from computing the dimension once per verdict.
create or replace function flywheel._subject_rows(subject text, source text, condition text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
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
-- purpose: 'insert' inside the user's statement, where a rejecting validator raises; 'late' for rows
-- that are stored already; 'try' stores nothing, not even a dimension.
create or replace function flywheel._verdict_query(
  versions integer[], rows_query text, purpose text
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_enforce constant boolean := purpose = 'insert';
  v_plain boolean;
  v_ids text;
  v_elements text;
begin
  select bool_and(v.is_total and not (v_enforce and 'reject' in (v.on_fail, v.on_error)))
  into v_plain
  from flywheel._validator_versions as v
  where v.version_id = any (versions);

  select
    string_agg(v.version_id::text, ', ' order by v.version_id),
    string_agg(E'\n          ' || flywheel._validator_element(v, 'n', not v_plain, v_enforce), ',' order by v.version_id)
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
    case when purpose <> 'try' then $dimension$
      where (
        select true
        from flywheel._dimensions as d
        where d.dimension_id operator(pg_catalog.=) n.dimension_id
        limit 1
      ) or flywheel._add_dimension(
        n.dimension_id, n.pipeline, n.variant, n.environment, n.release, n.node, n.started_at
      )$dimension$ end
  );
end
$$;

comment on function flywheel._verdict_query(integer[], text, text) is
  'A query giving one row per verdict of these validator versions over these rows.';

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

create or replace function flywheel._insert_verdicts(verdict_query text, created_at text)
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    $statement$insert into flywheel._verdicts (
      trace_id, span_id, dimension_id, created_at, version_id, revision, status, score, reason, error
    )
    select q.trace_id, q.span_id, q.dimension_id, %2$s, q.version_id, q.revision,
      flywheel._status_of(q.code), q.score, q.reason, q.error
    from (%1$s
    ) as q$statement$,
    verdict_query, created_at
  );
$$;

comment on function flywheel._insert_verdicts(text, text) is 'The statement that stores the rows of a verdict query.';

create or replace function flywheel._insert_jobs(versions integer[], rows_query text, created_at text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select format(
    $statement$insert into flywheel._jobs (trace_id, span_id, version_id, revision, created_at)
    select j.trace_id, j.span_id, j.version_id, j.revision, %3$s
    from (
      select n.trace_id, n.span_id, n.revision, pg_catalog.unnest(array[%1$s]::pg_catalog.int4[]) as version_id
      from (%2$s
      ) as n
    ) as j
    where j.version_id is not null$statement$,
    string_agg(
      case when cardinality(f.filters) = 0 then v.version_id::text
      else format('case when %s then %s end', array_to_string(f.filters, ' and '), v.version_id) end,
      ', ' order by v.version_id
    ),
    _insert_jobs.rows_query,
    _insert_jobs.created_at
  )
  from flywheel._validator_versions as v, lateral flywheel._version_filters(v, 'n') as f (filters)
  where v.version_id = any (versions);
$$;

comment on function flywheel._insert_jobs(integer[], text, text) is
  'The statement that enqueues these queued validator versions for the rows they apply to.';

-- A set of a few statements over the rows of one trigger call. Planned once per session while the
-- call is small, so the plan is one for small calls; a large call is planned for its own size.
create or replace function flywheel._compiled_body(
  subject text, generation integer, inline_versions integer[], queued_versions integer[], updated boolean
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
  v_table constant text := case subject when 'trace' then 'traces' else 'spans' end;
  v_rows constant text := flywheel._subject_rows(
    subject, 'new_rows',
    case when updated
      then 'n.revised_at operator(pg_catalog.=) pg_catalog.statement_timestamp()'
      else 'true'
    end
  );
  v_now constant text := 'flywheel.now()';
  v_statements text[] := array[]::text[];
  v_statement text;
  v_body text;
begin
  if inline_versions <> '{}' then
    v_statements := v_statements || flywheel._insert_verdicts(
      flywheel._verdict_query(inline_versions, v_rows, purpose => 'insert'), v_now
    );
  end if;
  if queued_versions <> '{}' then
    v_statements := v_statements || flywheel._insert_jobs(queued_versions, v_rows, v_now);
  end if;

  v_body := format(
    $body$
-- Generation %1$s of the validator set: %2$s inline, %3$s queued. Written by flywheel._compile().
declare
  v_rows pg_catalog.int8;
  v_restamp pg_catalog.int8;%5$s
begin
  select pg_catalog.count(*), pg_catalog.count(*) filter (where n.generation operator(pg_catalog.<>) %1$s)
  into v_rows, v_restamp
  from new_rows as n%4$s;
  if v_rows operator(pg_catalog.=) 0 then
    return null;
  end if;
$body$,
    generation, cardinality(inline_versions), cardinality(queued_versions),
    case when updated then E'\n  where n.revised_at operator(pg_catalog.=) pg_catalog.statement_timestamp()' end,
    case when updated then E'\n  v_trace_ids pg_catalog.uuid[];\n  v_span_ids pg_catalog.uuid[];' end
  );

  -- Rows stamped by a default that was planned before, or read after, this body was replaced.
  v_body := v_body || format(
    $body$  if v_restamp operator(pg_catalog.>) 0 then
    update flywheel.%1$I as s
    set generation = %2$s
    from new_rows as n
    where %3$s
      and n.generation operator(pg_catalog.<>) %2$s;
  end if;
$body$,
    v_table, generation,
    case subject
      when 'trace' then 's.trace_id operator(pg_catalog.=) n.trace_id'
      else E's.trace_id operator(pg_catalog.=) n.trace_id\n      and s.span_id operator(pg_catalog.=) n.span_id'
    end
  );

  if updated then
    v_body := v_body || format(
      $body$  -- A new revision's verdicts replace those of the old one.
  select pg_catalog.array_agg(n.trace_id), pg_catalog.array_agg(%1$s)
  into v_trace_ids, v_span_ids
  from new_rows as n
  where n.revised_at operator(pg_catalog.=) pg_catalog.statement_timestamp();
  delete from flywheel._verdicts as v
  using rows from (pg_catalog.unnest(v_trace_ids), pg_catalog.unnest(v_span_ids)) as k (trace_id, span_id)
  where v.trace_id operator(pg_catalog.=) k.trace_id
    and v.span_id operator(pg_catalog.=) k.span_id;
  delete from flywheel._jobs as j
  using rows from (pg_catalog.unnest(v_trace_ids), pg_catalog.unnest(v_span_ids)) as k (trace_id, span_id)
  where j.trace_id operator(pg_catalog.=) k.trace_id
    and j.span_id operator(pg_catalog.=) k.span_id;
$body$,
      case subject when 'trace' then 'flywheel._no_span()' else 'n.span_id' end
    );
  end if;

  if v_statements <> '{}' then
    v_body := v_body || E'  if v_rows operator(pg_catalog.<=) 1000 then\n';
    foreach v_statement in array v_statements loop
      v_body := v_body || format(E'    %s;\n', v_statement);
    end loop;
    v_body := v_body || E'  else\n';
    foreach v_statement in array v_statements loop
      v_body := v_body || format(E'    execute %L;\n', v_statement);
    end loop;
    v_body := v_body || E'  end if;\n';
  end if;
  return v_body;
end
$$;

comment on function flywheel._compiled_body(text, integer, integer[], integer[], boolean) is
  'The declarations and statements of a compiled trigger function, without what closes it.';

create or replace function flywheel._replace_compiled(signature text, returns text, body text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
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
as $$
declare
  v_generation integer;
  v_trace_inline integer[];
  v_trace_queued integer[];
  v_span_inline integer[];
  v_span_queued integer[];
  v_gate integer[];
  v_adopt text := '';
begin
  select s.generation into strict v_generation from flywheel._validator_set as s;

  select
    coalesce(array_agg(v.version_id) filter (where v.subject = 'trace' and v.mode = 'inline'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'trace' and v.mode = 'queued'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'span' and v.mode = 'inline'), '{}'),
    coalesce(array_agg(v.version_id) filter (where v.subject = 'span' and v.mode = 'queued'), '{}'),
    -- What can be asked before there is an output.
    coalesce(
      array_agg(v.version_id) filter (
        where v.subject = 'trace' and v.mode = 'inline' and not v.reads && array['output', 'ended_at', 'status']
      ),
      '{}'
    )
  into v_trace_inline, v_trace_queued, v_span_inline, v_span_queued, v_gate
  from flywheel._validator_versions as v
  where v.active_generations @> v_generation;

  -- Spans that came before their trace were judged without its pipeline. Touching them has their
  -- own trigger judge them again.
  if v_span_inline || v_span_queued <> '{}' then
    v_adopt := $body$  update flywheel.spans as s
  set revised_at = pg_catalog.statement_timestamp(), generation = flywheel._generation()
  where s.trace_id operator(pg_catalog.=) any (array(select n.trace_id from new_rows as n));
$body$;
  end if;

  execute format(
    'create or replace function flywheel._generation() returns integer language sql stable parallel safe begin atomic select %s; end',
    v_generation
  );
  perform flywheel._replace_compiled(
    '_tg_traces__validate_inserted()', 'trigger',
    flywheel._compiled_body('trace', v_generation, v_trace_inline, v_trace_queued, false)
      || v_adopt || E'  return null;\nend\n'
  );
  perform flywheel._replace_compiled(
    '_tg_traces__validate_updated()', 'trigger',
    flywheel._compiled_body('trace', v_generation, v_trace_inline, v_trace_queued, true) || E'  return null;\nend\n'
  );
  perform flywheel._replace_compiled(
    '_tg_spans__validate_inserted()', 'trigger',
    flywheel._compiled_body('span', v_generation, v_span_inline, v_span_queued, false) || E'  return null;\nend\n'
  );
  perform flywheel._replace_compiled(
    '_tg_spans__validate_updated()', 'trigger',
    flywheel._compiled_body('span', v_generation, v_span_inline, v_span_queued, true) || E'  return null;\nend\n'
  );
  perform flywheel._replace_compiled(
    '_gate(trace_id uuid, pipeline text, user_id text, input text, attributes jsonb)',
    'table (version_id integer, code integer, score double precision, reason text, error text)',
    flywheel._gate_body(v_gate)
  );
end
$$;

comment on function flywheel._compile() is
  'Writes the current validator set into the compiled functions: one static statement per table.';

create or replace function flywheel._gate_body(versions integer[])
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
  select case when versions = '{}' then E'begin\n  return;\nend\n'
  else format(
    E'#variable_conflict use_column\nbegin\n  return query select q.version_id, q.code::pg_catalog.int4, q.score, q.reason, q.error from (%s\n  ) as q;\nend\n',
    flywheel._verdict_query(
      versions,
      $rows$
      select $1 as trace_id, flywheel._no_span() as span_id, $2 as pipeline,
        null::pg_catalog.text as variant, null::pg_catalog.text as environment, null::pg_catalog.text as release,
        null::pg_catalog.text as session_id, null::pg_catalog.text as node,
        $3 as user_id, $4 as input, $5 as attributes,
        flywheel.now() as started_at, 1 as revision,
        flywheel._dimension_id($2, null, null, null, null, flywheel.now()) as dimension_id
      offset 0$rows$,
      purpose => 'try'
    )
  ) end;
$$;

comment on function flywheel._gate_body(integer[]) is 'Body of the compiled gate: these validator versions over one input.';

-- Every change of the set starts here: the lock first, then the row, and only then may the
-- catalog be read. Under REPEATABLE READ the second of two admins fails on the row instead of
-- compiling a set that lacks the other's validator.
create or replace function flywheel._begin_change()
returns integer
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
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
