PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE tool_definition (
    key        INTEGER PRIMARY KEY,
    hash       TEXT NOT NULL UNIQUE,
    definition TEXT NOT NULL
) STRICT;
INSERT INTO tool_definition VALUES(1,'6160e19098820254b30add8d767caa595cb8f2db5ad2f49ac11c0a2244532965','{"name":"report","title":"Leaves results","command":["sh","-c","cat \"$0\" > \"$ONELANE_OUTPUT/copy.fasta\"; echo hello; exit \"$1\"","{query}","{code}"],"needs":{},"on_interrupt":"restart","params":{"query":{"type":"fasta","optional":false,"alphabet":"protein","duplicates":"refuse"},"code":{"type":"integer","optional":false,"default":0}},"results":{"copy":{"file":"copy.fasta"}},"exit_codes":{"4":"ran out of something"}}');
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
                    CHECK (state = 'queued' OR state = 'starting' OR state = 'running' OR state = 'succeeded' OR state = 'failed' OR state = 'cancelled'),
    ready_at        INTEGER CHECK ((ready_at IS NOT NULL) = (state = 'queued')),
    claimed_at      INTEGER CHECK ((claimed_at IS NOT NULL) = (state = 'starting')),
    started_at      INTEGER
                    CHECK (started_at IS NOT NULL OR (state <> 'running' AND state <> 'succeeded'))
                    CHECK (started_at IS NULL OR (state <> 'queued' AND state <> 'starting')),
    stuck           INTEGER NOT NULL DEFAULT 0 CHECK (stuck = 0 OR (stuck = 1 AND state = 'running')),
    finished_at     INTEGER
                    CHECK ((finished_at IS NOT NULL) = (state = 'succeeded' OR state = 'failed' OR state = 'cancelled')),
    failure_kind    TEXT
                    CHECK ((failure_kind IS NOT NULL) = (state = 'failed'))
                    CHECK (failure_kind = 'exit' OR failure_kind = 'signal' OR failure_kind = 'timed_out'
                           OR failure_kind = 'out_of_memory' OR failure_kind = 'output_limit'
                           OR failure_kind = 'start_failed' OR failure_kind = 'interrupted'
                           OR failure_kind = 'node_failed' OR failure_kind = 'preempted' OR failure_kind = 'unknown'),
    failure_code    INTEGER
                    CHECK ((failure_code IS NOT NULL) = (coalesce(failure_kind, '') = 'exit' OR coalesce(failure_kind, '') = 'signal')),
    failure_message TEXT CHECK ((failure_message IS NOT NULL) = (state = 'failed')),
    stop_reason     TEXT CHECK (stop_reason = 'cancel' OR stop_reason = 'time' OR stop_reason = 'memory' OR stop_reason = 'output'
                           OR stop_reason = 'shutdown'),
    attempt         INTEGER NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    digest          TEXT NOT NULL,
    result_of       BLOB CHECK (length(result_of) = 16),
    created_at      INTEGER NOT NULL,
    changed_seq     INTEGER NOT NULL
) STRICT;
INSERT INTO job VALUES(1,X'01a22c8b1da77fab8a6004930fd5d60e',3765263856,'anonymous','report',1,'succeeded',0,1801439850948198401,'succeeded',NULL,NULL,1796043644351,0,1796043644353,NULL,NULL,NULL,NULL,1,'0cabde8efdc322d8d21b579fa56e7887b7050cd3e0278503e1327a58d0115227',NULL,1796043644327,4);
INSERT INTO job VALUES(2,X'01a22c8b1dfb7d9fb2b7bc51264c8324',1111016546,'anonymous','report',1,'failed',0,1801439850948198402,'failed',NULL,NULL,1796043644415,0,1796043644419,'exit',4,'exit code 4: ran out of something',NULL,1,'67e64131a6b46903b6fbbced9baa63bea4dea0dea84bead2bc94c3d2012869ae',NULL,1796043644411,8);
INSERT INTO job VALUES(3,X'01a22c8b1e4c7ce488106ff4fa7a6296',1764140975,'anonymous','sleep',2,'cancelled',0,1801439850948198403,'cancelled',NULL,NULL,1796043644499,0,1796043644505,NULL,NULL,NULL,'cancel',1,'40f71f25ac5bab267a0ba326de1fa461f3920734f9c65139ee8796668bfcafa3',NULL,1796043644492,13);
INSERT INTO job VALUES(4,X'01a22c8b1ea57e32b512e3cd30ee2fba',2884824579,'anonymous','sleep',2,'interrupted',0,1801439850948198404,'running',NULL,NULL,1796043644585,0,NULL,NULL,NULL,NULL,NULL,1,'ca73dc03f4cb3e28a4834de47ae34b36d49bae162171aef8f0321eac4d22b103',NULL,1796043644581,16);
INSERT INTO job VALUES(5,X'01a22c8b1eba7c2a8ed365db2b3a235f',4113736626,'anonymous','report',1,'queued-1',0,1801439850948198405,'queued',1796043644603,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,'1f68edeeb591c6d17ca7eddabbb8ecba676a8752038f948695710b94cdc13358',NULL,1796043644603,17);
INSERT INTO job VALUES(6,X'01a22c8b1ec47d48b19a50ebb0809385',1480132619,'anonymous','sleep',2,'queued-2',0,1801439850948198406,'queued',1796043644612,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,0,'c42bdb237443853077284e5d98f6f23bccc39d064908e1741d5c88ed5fb433e7',NULL,1796043644612,18);
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
    memory_peak_bytes INTEGER CHECK ((memory_peak_bytes IS NULL) = (wall_s IS NULL)), process_control TEXT, claimed_boot_id TEXT,
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;
INSERT INTO attempt VALUES(1,1,1796043644329,1796043644351,1796043644353,29562,521521,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,'exit',0,0.0021777979999999998866,0.0022390000000000001047,1753088,'cgroup','00000000-0000-0000-0000-000000000000');
INSERT INTO attempt VALUES(2,1,1796043644412,1796043644415,1796043644419,29568,521523,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,'exit',4,0.004647922999999999985,0.0023249999999999998098,3395584,'cgroup','00000000-0000-0000-0000-000000000000');
INSERT INTO attempt VALUES(3,1,1796043644494,1796043644499,1796043644505,29582,521530,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,'cancelled',NULL,0.0055372789999999999857,0.0015280000000000000612,3182592,'cgroup','00000000-0000-0000-0000-000000000000');
INSERT INTO attempt VALUES(4,1,1796043644582,1796043644585,NULL,29594,521538,'00000000-0000-0000-0000-000000000000','pid:[4026531836]',NULL,NULL,NULL,NULL,NULL,NULL,'cgroup','00000000-0000-0000-0000-000000000000');
CREATE TABLE idempotency (
    owner        TEXT NOT NULL,
    key          TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    job          BLOB NOT NULL CHECK (length(job) = 16),
    PRIMARY KEY (owner, key)
) STRICT, WITHOUT ROWID;
INSERT INTO idempotency VALUES('anonymous','cancelled','a3062750521adff670a7210c07446de9bc405bdaf2b1e8d23273bfe7223b03a8',X'01a22c8b1e4c7ce488106ff4fa7a6296');
INSERT INTO idempotency VALUES('anonymous','failed','b98a14904f91906d645e154c674ae6c0142706a02cec11815c70cb5ea093383f',X'01a22c8b1dfb7d9fb2b7bc51264c8324');
INSERT INTO idempotency VALUES('anonymous','interrupted','4ae341a621023d22eb851485ac6f816a624b32727a2fb28801973928556718ab',X'01a22c8b1ea57e32b512e3cd30ee2fba');
INSERT INTO idempotency VALUES('anonymous','queued-1','8b5e786c18ac3b94a9061c6fe9208c8f6222baad2978ac90e6e16cbe34287cf9',X'01a22c8b1eba7c2a8ed365db2b3a235f');
INSERT INTO idempotency VALUES('anonymous','queued-2','546ccbe87325aebed72c68a50a867afda46d4d07c80fc00688ef31fb6b9ed5d5',X'01a22c8b1ec47d48b19a50ebb0809385');
INSERT INTO idempotency VALUES('anonymous','succeeded','362b8895312e9b6ca87d5dd16efb6165b5ef1deaaf3a53f03ac2fb50dbabef65',X'01a22c8b1da77fab8a6004930fd5d60e');
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
INSERT INTO high_water VALUES('changed_seq',1048577);
CREATE INDEX job_alive ON job (seq) WHERE state IN ('starting', 'running');
CREATE INDEX job_by_owner ON job (owner);
CREATE INDEX job_by_tool ON job (tool);
CREATE INDEX job_by_name ON job (name) WHERE name IS NOT NULL;
CREATE INDEX job_tag_by_tag ON job_tag (tag, job);
CREATE INDEX job_queued ON job (order_key, id, definition) WHERE state = 'queued';
CREATE INDEX job_by_tail ON job (id_tail) WHERE finished_at IS NOT NULL;
CREATE INDEX job_by_end ON job (state) WHERE finished_at IS NOT NULL;
COMMIT;
PRAGMA application_id = 1332634956;
PRAGMA user_version = 4;
