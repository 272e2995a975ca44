-- Which labels count. Private: the public views and the judge's examples read them.

create or replace view flywheel._standing_labels as
select l.*
from flywheel._labels as l
where not exists (
  select from flywheel._label_withdrawals as w where w.trace_id = l.trace_id and w.label_id = l.label_id
);

comment on view flywheel._standing_labels is 'The labels that are not withdrawn.';

create or replace view flywheel._current_labels as
select l.*
from flywheel._labels as l
where l.validator_id is not null
  and l.label_id = (
    select n.label_id
    from flywheel._standing_labels as n
    where n.trace_id = l.trace_id and n.span_id = l.span_id and n.validator_id = l.validator_id
    order by n.precedence desc, n.label_id desc
    limit 1
  );

comment on view flywheel._current_labels is 'The current label of each target and validator: of the highest precedence, the newest.';
