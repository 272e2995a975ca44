-- Wilson (1927), "Probable inference, the law of succession, and statistical inference", eq. 3,
-- with z = 1.959963984540054 for 95 %.
create or replace function flywheel._wilson_interval(passed bigint, n bigint)
returns table (centre double precision, margin double precision)
language sql
immutable
parallel safe
begin atomic
  select
    (s.passed / s.n + z * z / (2 * s.n)) / (1 + z * z / s.n),
    z * sqrt(s.passed / s.n * (1 - s.passed / s.n) / s.n + z * z / (4 * s.n * s.n)) / (1 + z * z / s.n)
  from (
    select 1.959963984540054::double precision as z, passed, nullif(n, 0)::double precision as n
  ) as s;
end;

comment on function flywheel._wilson_interval(bigint, bigint) is
  'Centre and half-width of the 95 % Wilson score interval of a rate; null if n is 0.';
