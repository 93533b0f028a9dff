PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE tool_definition (
    key        INTEGER PRIMARY KEY,
    hash       TEXT NOT NULL UNIQUE,
    definition TEXT NOT NULL
) STRICT;
INSERT INTO tool_definition VALUES(1,'22f0ea4db24667415c7f6538342995282a325473ccfe5490c8a3e06df4f7ffb0','{"name":"report","title":"Leaves results","command":["sh","-c","cat \"$0\" > \"$ONELANE_OUTPUT/copy.fasta\"; echo hello; exit \"$1\"","{query}","{code}"],"needs":{},"on_interrupt":"restart","params":{"query":{"type":"fasta","optional":false,"alphabet":"protein"},"code":{"type":"integer","optional":false,"default":0}},"results":{"copy":{"file":"copy.fasta"}},"exit_codes":{"4":"ran out of something"}}');
INSERT INTO tool_definition VALUES(2,'a3b20f12fb8c3df1edbbd130d711fc1ed093a37d47fb2d1a1cc1c526d939a428','{"name":"sleep","command":["sleep","{seconds}"],"needs":{},"on_interrupt":"restart","params":{"seconds":{"type":"number","optional":false}},"results":{},"exit_codes":{}}');
CREATE TABLE job (
    seq             INTEGER PRIMARY KEY,
    id              BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    -- The last eight hexadecimal digits of the id read backwards as a number: a suffix of the id is a range of it.
    id_tail         INTEGER NOT NULL,
    owner           TEXT NOT NULL,
    tool            TEXT NOT NULL,
    definition      INTEGER NOT NULL REFERENCES tool_definition (key),
    name            TEXT,
    priority        INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    order_key       INTEGER NOT NULL,
    state           TEXT NOT NULL
                    CHECK (state IN ('queued', 'starting', 'running', 'succeeded', 'failed', 'cancelled')),
    ready_at        INTEGER CHECK ((ready_at IS NOT NULL) = (state = 'queued')),
    claimed_at      INTEGER CHECK ((claimed_at IS NOT NULL) = (state = 'starting')),
    started_at      INTEGER
                    CHECK (started_at IS NOT NULL OR state NOT IN ('running', 'succeeded'))
                    CHECK (started_at IS NULL OR state NOT IN ('queued', 'starting')),
    stuck           INTEGER NOT NULL DEFAULT 0 CHECK (stuck = 0 OR (stuck = 1 AND state = 'running')),
    finished_at     INTEGER
                    CHECK ((finished_at IS NOT NULL) = (state IN ('succeeded', 'failed', 'cancelled'))),
    failure_kind    TEXT
                    CHECK ((failure_kind IS NOT NULL) = (state = 'failed'))
                    CHECK (failure_kind IN ('exit', 'signal', 'timed_out', 'out_of_memory', 'output_limit',
                                            'start_failed', 'interrupted', 'node_failed', 'preempted', 'unknown')),
    failure_code    INTEGER
                    CHECK ((failure_code IS NOT NULL) = (coalesce(failure_kind, '') IN ('exit', 'signal'))),
    failure_message TEXT CHECK ((failure_message IS NOT NULL) = (state = 'failed')),
    stop_reason     TEXT CHECK (stop_reason IN ('cancel', 'time', 'memory', 'output', 'shutdown')),
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    digest          TEXT NOT NULL,
    result_of       BLOB CHECK (length(result_of) = 16),
    created_at      INTEGER NOT NULL,
    changed_seq     INTEGER NOT NULL
) STRICT;
INSERT INTO job VALUES(1,X'01a210e55d6775b49b48ac939c869817',1904830665,'anonymous','report',1,'succeeded',0,1801439850948198401,'succeeded',NULL,NULL,1795579796868,0,1795579796869,NULL,NULL,NULL,NULL,1,'e20100266a03bdc5e5df0e1a44c70af6813486680fad52d2c16f54d15b093eea',NULL,1795579796841,4);
INSERT INTO job VALUES(2,X'01a210e55ddb7faa9306b8d277910da3',986716535,'anonymous','report',1,'failed',0,1801439850948198402,'failed',NULL,NULL,1795579796985,0,1795579796988,'exit',4,'exit code 4: ran out of something',NULL,1,'a2cd4d889a6fef751906108e67f88920a4de2c25fb969c850dd04918b491ecb5',NULL,1795579796957,8);
INSERT INTO job VALUES(3,X'01a210e55e4d75a7b22077621b7a4cc0',214214577,'anonymous','sleep',2,'cancelled',0,1801439850948198403,'cancelled',NULL,NULL,NULL,0,1795579797095,NULL,NULL,NULL,'cancel',1,'40f71f25ac5bab267a0ba326de1fa461f3920734f9c65139ee8796668bfcafa3',NULL,1795579797070,12);
INSERT INTO job VALUES(4,X'01a210e55e8174c8bad8f61f17454239',2468631665,'anonymous','sleep',2,'interrupted',0,1801439850948198404,'running',NULL,NULL,1795579797140,0,NULL,NULL,NULL,NULL,NULL,1,'ca73dc03f4cb3e28a4834de47ae34b36d49bae162171aef8f0321eac4d22b103',NULL,1795579797123,15);
INSERT INTO job VALUES(5,X'01a210e55ee37a6897547974162f1a9b',3114398305,'anonymous','report',1,'queued-1',0,1801439850948198405,'queued',1795579797221,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,'1d6f3b960e9a7fee5164423f1b0c803df1e311fe9b100f97443d33876be60cff',NULL,1795579797221,16);
INSERT INTO job VALUES(6,X'01a210e55ef4771d9a337ad432127b1e',3786875171,'anonymous','sleep',2,'queued-2',0,1801439850948198406,'queued',1795579797237,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,'c42bdb237443853077284e5d98f6f23bccc39d064908e1741d5c88ed5fb433e7',NULL,1795579797237,17);
CREATE TABLE job_tag (
    job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    tag TEXT NOT NULL,
    PRIMARY KEY (job, tag)
) STRICT, WITHOUT ROWID;
INSERT INTO job_tag VALUES(1,'fixture');
INSERT INTO job_tag VALUES(2,'fixture');
INSERT INTO job_tag VALUES(3,'fixture');
INSERT INTO job_tag VALUES(4,'fixture');
INSERT INTO job_tag VALUES(5,'fixture');
INSERT INTO job_tag VALUES(6,'fixture');
CREATE TABLE job_after (
    job   INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    after BLOB NOT NULL CHECK (length(after) = 16),
    PRIMARY KEY (job, after)
) STRICT, WITHOUT ROWID;
CREATE TABLE job_input (
    job    INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    params TEXT NOT NULL,
    files  TEXT NOT NULL,
    notes  TEXT NOT NULL
) STRICT;
INSERT INTO job_input VALUES(1,'{"code":0,"query":{"file":"query.fasta","records":1,"residues":4}}','[{"param":"query","file":"query.fasta","content":{"inline":">a\nACDE\n"}}]','[]');
INSERT INTO job_input VALUES(2,'{"code":4,"query":{"file":"query.fasta","records":1,"residues":4}}','[{"param":"query","file":"query.fasta","content":{"inline":">a\nACDE\n"}}]','[]');
INSERT INTO job_input VALUES(3,'{"seconds":1000}','[]','[]');
INSERT INTO job_input VALUES(4,'{"seconds":3}','[]','[]');
INSERT INTO job_input VALUES(5,'{"code":0,"query":{"file":"query.fasta","records":1,"residues":4}}','[{"param":"query","file":"query.fasta","content":{"inline":">b\nFGHI\n"}}]','[]');
INSERT INTO job_input VALUES(6,'{"seconds":0}','[]','[]');
CREATE TABLE attempt (
    job               INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    attempt           INTEGER NOT NULL CHECK (attempt >= 1),
    claimed_at        INTEGER NOT NULL,
    started_at        INTEGER,
    finished_at       INTEGER,
    pid               INTEGER,
    start_time        INTEGER CHECK ((start_time IS NULL) = (pid IS NULL)),
    boot_id           TEXT CHECK ((boot_id IS NULL) = (pid IS NULL)),
    pid_namespace     TEXT CHECK ((pid_namespace IS NULL) = (pid IS NULL)),
    tool_version      TEXT,
    outcome           TEXT,
    exit_code         INTEGER,
    wall_s            REAL,
    cpu_s             REAL CHECK ((cpu_s IS NULL) = (wall_s IS NULL)),
    memory_peak_bytes INTEGER CHECK ((memory_peak_bytes IS NULL) = (wall_s IS NULL)),
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt VALUES(1,1,1795579796844,1795579796868,1795579796869,20656,350047,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,'exit',0,0.0014904309999999999607,0.0022959999999999998639,2347008);
INSERT INTO attempt VALUES(2,1,1795579796961,1795579796985,1795579796988,20670,350059,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,'exit',4,0.0033179030000000000848,0.0028540000000000001999,2150400);
INSERT INTO attempt VALUES(3,1,1795579797073,NULL,1795579797095,NULL,NULL,NULL,NULL,NULL,'cancelled',NULL,0.0,0.0,0);
INSERT INTO attempt VALUES(4,1,1795579797125,1795579797140,NULL,20693,350075,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE idempotency (
    owner        TEXT NOT NULL,
    key          TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    job          BLOB NOT NULL CHECK (length(job) = 16),
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;
INSERT INTO idempotency VALUES('anonymous','cancelled','a3062750521adff670a7210c07446de9bc405bdaf2b1e8d23273bfe7223b03a8',X'01a210e55e4d75a7b22077621b7a4cc0');
INSERT INTO idempotency VALUES('anonymous','failed','23114bde86eebf7d5ff89fbfdfceee72f569ee9f1a3075a5ffeef14869e347da',X'01a210e55ddb7faa9306b8d277910da3');
INSERT INTO idempotency VALUES('anonymous','interrupted','4ae341a621023d22eb851485ac6f816a624b32727a2fb28801973928556718ab',X'01a210e55e8174c8bad8f61f17454239');
INSERT INTO idempotency VALUES('anonymous','queued-1','e978ceb827fdb3d4244abccd8161c80b119d781f59bacf313e169f075e88d3c2',X'01a210e55ee37a6897547974162f1a9b');
INSERT INTO idempotency VALUES('anonymous','queued-2','546ccbe87325aebed72c68a50a867afda46d4d07c80fc00688ef31fb6b9ed5d5',X'01a210e55ef4771d9a337ad432127b1e');
INSERT INTO idempotency VALUES('anonymous','succeeded','df7a26370c3b0787b4af38963d1dd9999755bba9f2fba9928a7974d0e615d458',X'01a210e55d6775b49b48ac939c869817');
CREATE TABLE owner_clock (
    owner TEXT PRIMARY KEY,
    clock INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE high_water (
    name  TEXT PRIMARY KEY CHECK (name IN ('seq', 'changed_seq')),
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX job_queued ON job (order_key) WHERE state = 'queued';
CREATE INDEX job_alive ON job (seq) WHERE state IN ('starting', 'running');
CREATE UNIQUE INDEX job_changed ON job (changed_seq);
CREATE INDEX job_by_tail ON job (id_tail);
CREATE INDEX job_by_owner ON job (owner);
CREATE INDEX job_by_tool ON job (tool);
CREATE INDEX job_by_state ON job (state);
CREATE INDEX job_by_name ON job (name) WHERE name IS NOT NULL;
CREATE INDEX job_tag_by_tag ON job_tag (tag, job);
COMMIT;
PRAGMA application_id = 1332634956;
PRAGMA user_version = 1;
