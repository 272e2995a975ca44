-- Quantiles and distinct counts that can be added up and taken away again.
--
-- quantile: a histogram whose buckets grow by the factor 1.01/0.99, as in DDSketch (Masson, Rim, Lee:
-- VLDB 2019). The middle of a bucket is within 1 % of everything in it.
-- distinct_count: HyperLogLog (Flajolet et al. 2007) with 4,096 registers, standard error 1.6 %. Not
-- the highest rank of each register is kept but how many rows have each rank, so that a row can
-- leave. Both say the same whether they are computed from the rows or from what was kept.

create or replace function flywheel._quantile_bucket(x double precision)
returns integer
language sql
immutable
parallel safe
begin atomic
  select case
    when x = 'NaN' then 100000
    when x = 'Infinity' then 90000
    when x = '-Infinity' then -90000
    when x > 0 then 40000 + ceil(ln(x) / 0.020000666706669435)::integer
    when x < 0 then -40000 - ceil(ln(-x) / 0.020000666706669435)::integer
    when x = 0 then 0
  end;
end;

comment on function flywheel._quantile_bucket(double precision) is 'The bucket of a number: higher numbers have higher ones.';

create or replace function flywheel._quantile_value(bucket integer)
returns double precision
language sql
immutable
parallel safe
begin atomic
  select case
    when bucket = 100000 then 'NaN'
    when abs(bucket) = 90000 then sign(bucket) * double precision 'Infinity'
    when bucket = 0 then 0
    -- 2 / (gamma + 1), gamma = 1.01 / 0.99
    else sign(bucket) * 0.99 * exp(greatest(least((abs(bucket) - 40000) * 0.020000666706669435::double precision, 709.78), -744))
  end;
end;

comment on function flywheel._quantile_value(integer) is 'The middle of a bucket: within 1 % of all its numbers.';

create or replace function flywheel._quantile_of_buckets(buckets integer[], counts bigint[], p double precision)
returns double precision
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._quantile_value(b.bucket)
  from (
    select b.bucket, b.n, sum(b.n) over (order by b.bucket) as so_far, sum(b.n) over () as total
    from (
      select b.bucket, sum(b.n) as n
      from rows from (unnest(buckets), unnest(counts)) as b (bucket, n)
      where b.n is not null
      group by b.bucket
    ) as b
  ) as b
  where p between 0 and 1 and b.n > 0 and b.so_far >= p * b.total
  order by b.bucket
  limit 1;
$$;

comment on function flywheel._quantile_of_buckets(integer[], bigint[], double precision) is 'A quantile from the counts of buckets, which may be given in parts.';

create or replace function flywheel._quantile_add(state bigint[], x double precision)
returns bigint[]
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_bucket constant integer := flywheel._quantile_bucket(x);
begin
  state[v_bucket] := coalesce(state[v_bucket], 0) + 1;
  return state;
end
$$;

comment on function flywheel._quantile_add(bigint[], double precision) is 'Counts a number in its bucket.';

create or replace function flywheel._quantile_final(state bigint[], p double precision)
returns double precision
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._quantile_of_buckets(array_agg(b.bucket), array_agg(state[b.bucket]), p)
  from generate_subscripts(state, 1) as b (bucket)
  where state[b.bucket] > 0;
$$;

comment on function flywheel._quantile_final(bigint[], double precision) is 'A quantile from the array of all buckets.';

create or replace aggregate flywheel.quantile(p double precision order by x double precision) (
  sfunc = flywheel._quantile_add,
  stype = bigint[],
  initcond = '{}',
  finalfunc = flywheel._quantile_final,
  finalfunc_modify = read_only,
  parallel = safe
);

comment on aggregate flywheel.quantile(double precision order by double precision) is
  'Like percentile_disc(p) within group (order by x), within 1 % of it, without sorting; can be kept current in an incremental metric. Null without rows. Example: flywheel.quantile(0.95) within group (order by score).';

create or replace function flywheel._distinct_bucket(x anyelement)
returns integer
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select (h.hash & 4095)::integer * 64
    -- The place of the lowest bit that is set among the other 52.
    + case h.hash >> 12 & 4503599627370495 when 0 then 53
      else round(ln(((h.hash >> 12 & 4503599627370495) & -(h.hash >> 12 & 4503599627370495))::double precision) / ln(2::double precision))::integer + 1 end
  from (select hash_record_extended(row(x), 0) as hash) as h;
$$;

comment on function flywheel._distinct_bucket(anyelement) is 'Register and rank of a value: 64 * register + rank.';

create or replace function flywheel._distinct_estimate(inverse_sum double precision, empty_registers bigint)
returns bigint
language sql
immutable
parallel safe
begin atomic
  select round(
    case when e.estimate <= 2.5 * 4096 and empty_registers > 0 then 4096 * ln(4096::double precision / empty_registers) else e.estimate end
  )::bigint
  from (select 0.7213 / (1 + 1.079 / 4096) * 4096 * 4096 / inverse_sum as estimate) as e;
end;

comment on function flywheel._distinct_estimate(double precision, bigint) is 'How many distinct values 4,096 registers stand for.';

create or replace function flywheel._distinct_count_of_buckets(buckets integer[], counts bigint[])
returns bigint
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._distinct_estimate(coalesce(sum(2::double precision ^ -r.rank), 0) + 4096 - count(*), 4096 - count(*))
  from (
    select b.bucket / 64 as register, max(b.bucket % 64) as rank
    from (
      select b.bucket
      from rows from (unnest(buckets), unnest(counts)) as b (bucket, n)
      group by b.bucket
      having sum(b.n) > 0
    ) as b
    group by b.bucket / 64
  ) as r;
$$;

comment on function flywheel._distinct_count_of_buckets(integer[], bigint[]) is 'How many distinct values the counts of (register, rank) stand for.';

create or replace function flywheel._distinct_add(state smallint[], x anyelement)
returns smallint[]
language plpgsql
immutable
strict
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
declare
  v_bucket constant integer := flywheel._distinct_bucket(x);
begin
  if coalesce(state[v_bucket / 64], 0) < v_bucket % 64 then
    state[v_bucket / 64] := v_bucket % 64;
  end if;
  return state;
end
$$;

comment on function flywheel._distinct_add(smallint[], anyelement) is 'Raises the register of a value to its rank.';

create or replace function flywheel._distinct_final(state smallint[])
returns bigint
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
set standard_conforming_strings = on
as $$
  select flywheel._distinct_estimate(coalesce(sum(2::double precision ^ -r.rank), 0) + 4096 - count(*), 4096 - count(*))
  from unnest(state) as r (rank)
  where r.rank is not null;
$$;

comment on function flywheel._distinct_final(smallint[]) is 'How many distinct values the registers stand for.';

create or replace aggregate flywheel.distinct_count(anyelement) (
  sfunc = flywheel._distinct_add,
  stype = smallint[],
  initcond = '{}',
  finalfunc = flywheel._distinct_final,
  finalfunc_modify = read_only,
  parallel = safe
);

comment on aggregate flywheel.distinct_count(anyelement) is
  'Like count(distinct x), with a standard error of 1.6 %, in constant memory; can be kept current in an incremental metric.';
