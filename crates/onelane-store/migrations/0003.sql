-- All that a start needs of the queue, so that a million waiting jobs are read without a look at their rows.
DROP INDEX job_queued;
CREATE INDEX job_queued ON job (order_key, id, definition) WHERE state = 'queued';
