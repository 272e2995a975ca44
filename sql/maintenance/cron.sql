-- Cron expressions: five fields (minute, hour, day of the month, month, day of the week), in UTC.

create or replace function flywheel._cron_field(field text, lowest integer, highest integer, names text[] default '{}')
returns integer[]
language plpgsql
immutable
strict
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_part text;
  v_match text[];
  v_from integer;
  v_to integer;
  v_step integer;
  v_values integer[] := array[]::integer[];
begin
  foreach v_part in array string_to_array(field, ',') loop
    v_match := regexp_match(v_part, '^(?:(\*)|([0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?)(?:/([0-9]{1,2}))?$');
    if v_match is null then
      return null;
    end if;
    v_step := coalesce(v_match[4]::integer, 1);
    if v_match[1] = '*' then
      v_from := lowest;
      v_to := highest;
    else
      v_from := flywheel._cron_value(v_match[2], lowest, names);
      -- A single value with a step goes on to the end: 5/20 is 5-59/20.
      v_to := case
        when v_match[3] is not null then flywheel._cron_value(v_match[3], lowest, names)
        when v_match[4] is not null then highest
        else v_from
      end;
      -- Sunday ends a week as well as it begins one: fri-sun.
      if highest = 7 and v_to = 0 and v_from > 0 then
        v_to := 7;
      end if;
    end if;
    if v_from is null or v_to is null or v_from < lowest or v_to > highest or v_from > v_to or v_step < 1 then
      return null;
    end if;
    v_values := v_values || array(select g.n from generate_series(v_from, v_to, v_step) as g (n));
  end loop;
  return array(
    select distinct case when highest = 7 then u.n % 7 else u.n end
    from unnest(v_values) as u (n)
    order by 1
  );
end
$$;

comment on function flywheel._cron_field(text, integer, integer, text[]) is
  'The values of one field of a cron expression, in order; null if it makes no sense. A highest of 7 is the day of the week: 7 is Sunday, like 0.';

create or replace function flywheel._cron_value(value text, lowest integer, names text[])
returns integer
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select case when value ~ '^[0-9]+$' then value::integer else array_position(names, value) - 1 + lowest end;
$$;

comment on function flywheel._cron_value(text, integer, text[]) is 'A number, or the number of a name; null for a name that is none.';

create or replace function flywheel._cron_fields(cron text)
returns text[]
language sql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select string_to_array(
    case w.words
      when '@yearly' then '0 0 1 1 *'
      when '@annually' then '0 0 1 1 *'
      when '@monthly' then '0 0 1 * *'
      when '@weekly' then '0 0 * * 0'
      when '@daily' then '0 0 * * *'
      when '@midnight' then '0 0 * * *'
      when '@hourly' then '0 * * * *'
      else w.words
    end, ' '
  )
  from (values (regexp_replace(lower(btrim(cron, E' \t\n\r')), '\s+', ' ', 'g'))) as w (words);
$$;

comment on function flywheel._cron_fields(text) is 'The fields of a cron expression; @daily and its kin are written out.';

-- As crontab(5) has it: when both days are restricted, which is to say that neither begins with a
-- star, either will do; otherwise both must hold.
create or replace function flywheel._next_cron(cron text, after timestamptz)
returns timestamptz
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_fields constant text[] := flywheel._cron_fields(cron);
  v_minutes constant integer[] := flywheel._cron_field(v_fields[1], 0, 59);
  v_hours constant integer[] := flywheel._cron_field(v_fields[2], 0, 23);
  v_days constant integer[] := flywheel._cron_field(v_fields[3], 1, 31);
  v_months constant integer[] := flywheel._cron_field(
    v_fields[4], 1, 12, '{jan,feb,mar,apr,may,jun,jul,aug,sep,oct,nov,dec}'
  );
  v_weekdays constant integer[] := flywheel._cron_field(v_fields[5], 0, 7, '{sun,mon,tue,wed,thu,fri,sat}');
  v_either constant boolean := v_fields[3] !~ '^\*' and v_fields[5] !~ '^\*';
  v_after constant timestamp := after at time zone 'UTC';
  v_next timestamp;
begin
  if cardinality(v_fields) <> 5
    or num_nulls(v_minutes, v_hours, v_days, v_months, v_weekdays) > 0 then
    raise exception 'the cron expression is %', quote_literal(cron)
      using errcode = 'LF002',
        hint = 'Give five fields: minute, hour, day of the month, month, day of the week; each *, a value, a range (1-5), a step (*/10) or a list of those. Or @hourly, @daily, @weekly, @monthly, @yearly. Times are in UTC.';
  end if;
  -- 29 February on a given day of the week can be 40 years away.
  select d.day + make_interval(hours => t.hour, mins => t.minute) into v_next
  from (
    select g.day
    from generate_series(date_trunc('day', v_after), date_trunc('day', v_after) + interval '41 years', interval '1 day') as g (day)
    where extract(month from g.day) = any (v_months)
      and case
        when v_either then extract(day from g.day) = any (v_days) or extract(dow from g.day) = any (v_weekdays)
        else extract(day from g.day) = any (v_days) and extract(dow from g.day) = any (v_weekdays)
      end
      and g.day + make_interval(hours => v_hours[cardinality(v_hours)], mins => v_minutes[cardinality(v_minutes)]) > v_after
    limit 1
  ) as d,
    lateral (
      select h.hour, m.minute
      from unnest(v_hours) as h (hour), unnest(v_minutes) as m (minute)
      where d.day + make_interval(hours => h.hour, mins => m.minute) > v_after
      order by h.hour, m.minute
      limit 1
    ) as t;
  if v_next is null then
    raise exception 'the cron expression % never comes', quote_literal(cron)
      using errcode = 'LF002', hint = 'No year has that day in that month.';
  end if;
  return v_next at time zone 'UTC';
end
$$;

comment on function flywheel._next_cron(text, timestamptz) is
  'The first minute after a time at which a cron expression holds, in UTC. LF002 if the expression makes no sense.';
