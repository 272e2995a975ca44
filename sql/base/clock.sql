-- The one clock. Tests replace this function inside the transaction they roll back, so no test
-- sleeps and production pays nothing: the planner inlines it to now().
create or replace function flywheel.now()
returns timestamptz
language sql
stable
parallel safe
begin atomic
  select pg_catalog.now();
end;

comment on function flywheel.now() is
  'The clock every timestamp of flywheel is read from: the start of the transaction. Tests replace it.';

-- The first 60 bits of an RFC 9562 version 7 UUID are milliseconds and a sub-millisecond fraction.
-- Both come from one number, floor(microseconds * 4.096), so that the clock is read once and the
-- planner can inline the function into a column default.
create or replace function flywheel.uuidv7()
returns uuid
language sql
volatile
parallel safe
begin atomic
  select (
    pg_catalog.overlay(
      pg_catalog.lpad(
        pg_catalog.to_hex(
          (pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()) * 1000000)::bigint * 512 / 125
        ),
        15, '0'
      ),
      '7', 13, 0
    ) || pg_catalog.substr(pg_catalog.gen_random_uuid()::text, 20)
  )::uuid;
end;

comment on function flywheel.uuidv7() is
  'A time-ordered UUID, version 7 of RFC 9562: milliseconds, a sub-millisecond fraction, 62 random bits.';

-- 30 days are a month where intervals are compared, so '-1 month 31 days' is above 0, and back in time.
create or replace function flywheel._is_ahead(length_of_time interval)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select length_of_time > interval '0'
    and least(
      extract(year from length_of_time), extract(month from length_of_time), extract(day from length_of_time),
      extract(hour from length_of_time), extract(minute from length_of_time), extract(second from length_of_time)
    ) >= 0;
$$;

comment on function flywheel._is_ahead(interval) is 'Whether an interval leads ahead in time, whenever it begins.';
