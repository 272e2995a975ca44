create or replace function flywheel._expiry(keep interval)
returns timestamptz
language sql
stable
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select (flywheel.now() at time zone 'UTC' - keep) at time zone 'UTC';
$$;

comment on function flywheel._expiry(interval) is 'Before when a trace must have been received to be older than this.';
