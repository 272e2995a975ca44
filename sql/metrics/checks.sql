-- Which queries can be metrics. As for validators (internal/expressions.sql), PostgreSQL's own parser
-- reads the text, and the parse tree decides, which cannot be fooled by how the text is spelled:
--
-- 1. It is parsed inside (( )] ) as the quoted body of a function, so nothing runs.
-- 2. It becomes a view of the role flywheel_metric. A text that leaves the parentheses of one of the
--    two does not parse in the other, so a second statement cannot get through.
-- 3. The tree of that view tells what it reads and calls.
-- 4. Only now is it planned, as flywheel_metric, which can do no more than a reader.

-- Where a query is wrong. PL/pgSQL cannot see the position of an error: that of a syntax error is
-- found by parsing shorter and shorter beginnings of the text, that of a name by looking for it.
create or replace function flywheel._locate_problem(query text, state text, message text)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set check_function_bodies = on
as $$
declare
  v_low integer := 0;
  v_high integer := length(query) + 1;
  v_middle integer;
  v_message text;
  v_name text;
  v_of text;
  v_before text;
begin
  if message like 'unterminated %' then
    -- What it is near to reaches to the end of the text that was parsed (_check_metric_query).
    v_high := length(query) + 1 - (length(substring(message from 'at or near "(.*)"$')) - length(E'\n) as q limit 1)]'));
  elsif state = '42601' then
    while v_high - v_low > 1 loop
      v_middle := (v_low + v_high) / 2;
      begin
        execute format(
          'create or replace function flywheel._metric_text() returns void language sql as %L',
          'select array[(select 1 from (' || left(query, v_middle)
        );
      exception when others then
        get stacked diagnostics v_message = message_text;
      end;
      if v_message like '%at end of input' or v_message like 'unterminated %' then
        v_low := v_middle;
      else
        v_high := v_middle;
      end if;
    end loop;
    -- From its last letter to the beginning of its word.
    v_high := v_high - greatest(length(substring(left(query, v_high) from '\w*$')) - 1, 0);
  else
    v_name := (select m[1] from regexp_matches(message, '"([^"]+)"', 'g') as m limit 1);
    v_name := coalesce(v_name, substring(message from '(?:column|function|type|relation) ([\w.]+)'));
    v_of := lower(substring(v_name from '([^.]+)\.[^.]+$'));
    -- As a word of the query, not of a comment or a string. Of a.b, b after a.
    v_high := (
      select case when w.of = v_of then w.place_of else w.place end
      from (
        select lower(btrim(m[1], '"')) as word, lower(btrim(lag(m[1], 2) over (order by n), '"')) as of,
          1 + coalesce(sum(length(m[1])) over before, 0) as place,
          coalesce(sum(length(m[1])) over before, 0) - coalesce(length(lag(m[1], 2) over (order by n)), 0) as place_of
        from regexp_matches(
          query, $re$(--[^\n]*|/\*(?:[^*]|\*+[^*/])*\*+/|'(?:[^']|'')*'|"(?:[^"]|"")*"|[\w$]+|.)$re$, 'g'
        ) with ordinality as t (m, n)
        window before as (order by n rows between unbounded preceding and 1 preceding)
      ) as w
      where w.word = lower(substring(v_name from '([^.]+)$'))
      order by w.of is not distinct from v_of desc, w.place
      limit 1
    );
  end if;
  if v_high is null or v_high < 1 then
    return null;
  end if;
  v_before := left(query, v_high - 1);
  return format(
    'line %s, column %s: %s',
    length(v_before) - length(replace(v_before, E'\n', '')) + 1,
    length(substring(v_before from '[^\n]*$')) + 1,
    left(coalesce(nullif(substring(substr(query, v_high) from '^[^\n]*'), ''), 'the end'), 100)
  );
end
$$;

comment on function flywheel._locate_problem(text, text, text) is
  'Line, column and text of what PostgreSQL complains about in a metric''s query, where that can be found.';

-- Owned by flywheel_metric, like the next two: what they make belongs to that role and reads with its rights.
create or replace function flywheel._make_metric_view(view_name text, query text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  -- Its scans are counted: metric_advice tells how often the metric is read.
  v_reads text;
begin
  if view_name ~ '^_' then
    execute format(E'create or replace view flywheel.%I as select q.* from (%s\n) as q', view_name, query);
  else
    v_reads := (select flywheel._reads_table(m.metric_id) from flywheel._metrics as m where m.name = view_name);
    if to_regclass(format('flywheel.%I', v_reads)) is null then
      execute format('create table flywheel.%I as select true as is_there', v_reads);
      execute format('comment on table flywheel.%I is %L', v_reads, 'One row. How often it is scanned is how often the metric is read.');
      execute format('comment on column flywheel.%I.is_there is %L', v_reads, 'Always true.');
    end if;
    execute format(
      E'create or replace view flywheel.%I as select q.* from (%s\n) as q where (select r.is_there from flywheel.%I as r)',
      view_name, query, v_reads
    );
    execute format('grant select on flywheel.%I to flywheel_reader, flywheel_labeler', view_name);
  end if;
end
$$;

comment on function flywheel._make_metric_view(text, text) is 'Makes or replaces a view that belongs to flywheel_metric, for readers if its name is public.';

create or replace function flywheel._drop_metric_relation(relation_name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_kind text := (
    select case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'r' then 'table' end
    from pg_class as c
    where c.relnamespace = 'flywheel'::regnamespace and c.relname = relation_name
  );
begin
  if v_kind is not null then
    execute format('drop %s flywheel.%I', v_kind, relation_name);
  end if;
end
$$;

comment on function flywheel._drop_metric_relation(text) is 'Drops a relation of flywheel_metric, if it is there.';

create or replace function flywheel._plan_metric(view_name text)
returns void
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
begin
  execute format('explain select * from flywheel.%I', view_name);
end
$$;

comment on function flywheel._plan_metric(text) is
  'Plans the query of a metric as flywheel_metric: raises what that role has no right to.';

-- What is written in one session may be read in another, whose time zone is another.
create or replace function flywheel._view_text(view_name text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set timezone = 'UTC'
set datestyle = 'ISO, MDY'
set intervalstyle = 'postgres'
set extra_float_digits = 1
as $$
  select rtrim(pg_get_viewdef(to_regclass(format('flywheel.%I', view_name))), '; ');
$$;

comment on function flywheel._view_text(text) is 'The query of a view as PostgreSQL prints it, whatever the settings of the session.';

create or replace function flywheel._view_tree(view_name text)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select r.ev_action::text
  from pg_rewrite as r
  where r.ev_class = to_regclass(format('flywheel.%I', view_name)) and r.rulename = '_RETURN';
$$;

comment on function flywheel._view_tree(text) is 'The parse tree of a view.';

create or replace function flywheel._check_metric_tree(tree text, is_builtin boolean)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_relation record;
  v_function text;
begin
  if tree like '%:hasRecursive true%' then
    raise exception 'the query is recursive'
      using errcode = 'LF006',
        hint = 'Nothing would end a recursion that does not end. Compute the hierarchy into a table of yours, and read that.';
  end if;
  if tree like '%:rowMarks (%' then
    raise exception 'the query locks the rows it reads'
      using errcode = 'LF006', hint = 'Leave out FOR UPDATE or FOR SHARE.';
  end if;
  perform flywheel._check_code(tree, who => 'a metric', what => 'the query', runs => 'reading');
  if is_builtin then
    return;
  end if;

  select c.oid::regclass as name, c.relnamespace::regnamespace::text as schema
  into v_relation
  from regexp_matches(tree, ':relid (\d+)', 'g') as m
  join pg_class as c on c.oid = m[1]::oid
  where c.relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    or c.relnamespace = 'flywheel'::regnamespace and c.relname like '\_%' and c.relname <> '_metric_check'
  limit 1;
  if found then
    raise exception 'the query reads %, which is %', v_relation.name,
      case v_relation.schema when 'flywheel' then 'private' else 'a catalog of the server' end
      using errcode = 'LF006',
        hint = 'A metric reads flywheel''s tables and views, and what is granted to flywheel_metric.';
  end if;

  -- What tells about the session or the server rather than about rows.
  select p.oid::regprocedure::text
  into v_function
  from flywheel._tree_functions(tree) as f (oid)
  join pg_proc as p on p.oid = f.oid
  where p.pronamespace = 'pg_catalog'::regnamespace
    and (
      p.proname in ('current_setting', 'version', 'pg_get_userbyid', 'pg_backend_pid')
      or p.proname ~ '^(pg_stat_|pg_read_|pg_ls_|pg_show_|pg_get_|pg_database_|pg_tablespace_|inet_|lo_|dblink|has_|txid_|pg_current_)'
    )
  limit 1;
  -- CURRENT_USER and its like: some of the values that SQL has without parentheses.
  if tree ~ '\{SQLVALUEFUNCTION :op (9|10|11|12|14) ' then
    v_function := 'current_user (or session_user, current_schema, ...)';
  end if;
  if v_function is not null then
    raise exception 'the function % tells about the server, not about rows', v_function
      using errcode = 'LF006', hint = 'A metric is read by many. Its query must not hand out settings, files or sessions.';
  end if;
end
$$;

comment on function flywheel._check_metric_tree(text, boolean) is
  'Refuses the query of a metric that recurses, locks, reads what is private or tells about the server.';

-- Refusals say what to do. Returns what the catalog keeps about the query.
create or replace function flywheel._check_metric_query(
  query text, is_builtin boolean, out columns text[], out depends_on text[], out validators text[], out bound_query text
)
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
set check_function_bodies = on
as $$
declare
  v_state text;
  v_message text;
  v_hint text;
  v_tree text;
begin
  if btrim(coalesce(query, '')) = '' then
    raise exception 'the query is empty'
      using errcode = 'LF006', hint = 'Give a SELECT, for example: select pipeline, count(*) as n from flywheel.traces group by pipeline';
  end if;
  if octet_length(query) > 100000 then
    raise exception 'the query has % bytes', octet_length(query)
      using errcode = 'LF006', hint = 'A metric''s query has at most 100,000. Put what it repeats into a view.';
  end if;

  begin
    execute format(
      'create or replace function flywheel._metric_text() returns integer[] language sql stable as %L',
      format(E'select array[(select 1 from (%s\n) as q limit 1)]', query)
    );
    execute 'drop function flywheel._metric_text()';
    perform flywheel._make_metric_view('_metric_check', query);
    v_tree := flywheel._view_tree('_metric_check');
    perform flywheel._check_metric_tree(v_tree, is_builtin);
    perform flywheel._plan_metric('_metric_check');

    columns := array(
      select a.attname
      from pg_attribute as a
      where a.attrelid = to_regclass('flywheel._metric_check') and a.attnum > 0
      order by a.attnum
    );
    depends_on := array(
      select distinct coalesce(c.oid::regclass::text, p.oid::regprocedure::text) as name
      from pg_rewrite as r
      join pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
      left join pg_class as c on d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid and c.oid <> r.ev_class
      left join pg_proc as p on d.refclassid = 'pg_proc'::regclass and p.oid = d.refobjid
      where r.ev_class = to_regclass('flywheel._metric_check')
        and coalesce(c.oid, p.oid) is not null
      order by name
    );
    validators := array(
      select distinct n.name
      from regexp_matches(v_tree, '(\{CONST :consttype 25 [^{}]*:constisnull false [^{}]*\})', 'g') as m
      join flywheel._validators as n on n.name = flywheel._tree_text(m[1])
      order by n.name
    );
    bound_query := flywheel._view_text('_metric_check');
    perform flywheel._drop_metric_relation('_metric_check');
  exception when others then
    get stacked diagnostics v_state = returned_sqlstate, v_message = message_text, v_hint = pg_exception_hint;
    if v_state like '40%' or v_state like '57%' then
      raise;
    end if;
    raise exception 'the query is refused: %', v_message
      using errcode = 'LF006',
        detail = coalesce(
          case when v_state like '42%' and v_state <> '42501' then flywheel._locate_problem(query, v_state, v_message) end,
          left(query, 200)
        ),
        hint = case
          when v_state in ('42P01', '42883', '3F000', '42704') then 'Names outside pg_catalog need their schema, for example flywheel.traces, and functions arguments of the right types.'
          when coalesce(v_hint, '') <> '' then v_hint
          when v_state = '42501' then 'Metrics read as the role flywheel_metric: grant select on the table (and usage on its schema) to flywheel_metric.'
          when v_state in ('42601', '42P11', '0A000') then 'Give one SELECT.'
          when v_state = '42702' then 'Name the table the column is from.'
          when v_state = '42701' then 'Give each column a name of its own: ... as name.'
          else 'Correct the query.'
        end;
  end;
  if '?column?' = any (columns) then
    raise exception 'the query is refused: a column has no name'
      using errcode = 'LF006', hint = 'Give each column a name: ... as name.';
  end if;
end
$$;

comment on function flywheel._check_metric_query(text, boolean) is
  'Checks the query of a metric; returns its columns, what it names, which validators its strings name, and its bound text.';
