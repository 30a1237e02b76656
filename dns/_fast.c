/* The hit path of DNS in C: what `kept.Kept.answer` and `batch.Batch` do, byte for byte, where it can be compiled.
 *
 * Owns no rule of its own: Hits finds answers in the two levels of the cache, Datagrams moves datagrams by the batch, and
 * both leave to Python whatever is not plain. Packets are hostile: every read is behind a check of the length, and
 * objects of Python's side are checked for their type before their bytes are read. How: the parts of an Entry and a
 * Body are read from their slots, whose places are learned from the classes.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

enum {
    HEADER = 12,  /* bytes of a message's header */
    COUNTS = 10,  /* and of it without the id */
    MAX_NAME = 255,
    OPT = 11,  /* bytes of an OPT record without options */
    COOKIE = OPT + 4,  /* and with the head of one option */
    CLIENT_COOKIE = 8,
    SERVER_COOKIE = 16,
    OPTION = 4 + CLIENT_COOKIE + SERVER_COOKIE,
    KEY = 16,
    KINDS = 24 * 13,  /* counters.RCODES times its TYPES */
    SLOTS = 64,
    MAX_DATAGRAM = 4096,
    STRIDE = MAX_DATAGRAM + 64,  /* see batch.py */
};

/* ---------------------------------------------------------------- parts of Python's objects */

typedef struct {
    PyObject *name;
    PyTypeObject *type;  /* whose slot it is; NULL: read it as an attribute */
    Py_ssize_t offset;
} Slot;

static int learn(Slot *slot, PyObject *type, const char *name) {
    slot->name = PyUnicode_InternFromString(name);
    if (!slot->name) return -1;
    PyObject *found = PyObject_GetAttr(type, slot->name);
    if (!found) {
        PyErr_Clear();
        return 0;
    }
    if (Py_IS_TYPE(found, &PyMemberDescr_Type) && (PyObject *)PyDescr_TYPE(found) == type) {
        PyMemberDef *member = ((PyMemberDescrObject *)found)->d_member;
        if (member->type == T_OBJECT_EX) {
            slot->type = (PyTypeObject *)Py_NewRef(type);
            slot->offset = member->offset;
        }
    }
    Py_DECREF(found);
    return 0;
}

static void forget(Slot *slot) {
    Py_CLEAR(slot->name);
    Py_CLEAR(slot->type);
}

/* A new reference; NULL with an exception. */
static PyObject *load(PyObject *object, const Slot *slot) {
    if (slot->type && Py_IS_TYPE(object, slot->type)) {
        PyObject *found = *(PyObject **)((char *)object + slot->offset);
        if (found) return Py_NewRef(found);
    }
    return PyObject_GetAttr(object, slot->name);
}

/* A number that must not be negative; -1 with an exception. */
static Py_ssize_t load_number(PyObject *object, const Slot *slot) {
    PyObject *found = load(object, slot);
    if (!found) return -1;
    Py_ssize_t number = PyLong_AsSsize_t(found);
    Py_DECREF(found);
    if (number < 0 && !PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "a negative number in a kept answer");
    return number < 0 ? -1 : number;
}

static PyObject *load_bytes(PyObject *object, const Slot *slot) {
    PyObject *found = load(object, slot);
    if (found && !PyBytes_Check(found)) {
        PyErr_SetString(PyExc_TypeError, "a kept answer's part is not bytes");
        Py_CLEAR(found);
    }
    return found;
}

static int same(PyObject *one, PyObject *two) {
    return one == two ? 1 : PyObject_RichCompareBool(one, two, Py_EQ);
}

/* ---------------------------------------------------------------- SipHash-2-4 (RFC 9018 section 4.4) */

static uint64_t little(const uint8_t *from, size_t size) {
    uint64_t number = 0;
    for (size_t at = 0; at < size; at++) number |= (uint64_t)from[at] << (8 * at);
    return number;
}

static uint64_t rotated(uint64_t number, int bits) {
    return number << bits | number >> (64 - bits);
}

static void mix(uint64_t v[4], int rounds) {
    while (rounds--) {
        v[0] += v[1], v[2] += v[3];
        v[1] = rotated(v[1], 13) ^ v[0], v[3] = rotated(v[3], 16) ^ v[2];
        v[0] = rotated(v[0], 32);
        v[2] += v[1], v[0] += v[3];
        v[1] = rotated(v[1], 17) ^ v[2], v[3] = rotated(v[3], 21) ^ v[0];
        v[2] = rotated(v[2], 32);
    }
}

static uint64_t siphash(const uint8_t key[KEY], const uint8_t *from, size_t size) {
    uint64_t low = little(key, 8), high = little(key + 8, 8);
    uint64_t v[4] = {low ^ 0x736f6d6570736575ULL, high ^ 0x646f72616e646f6dULL, low ^ 0x6c7967656e657261ULL, high ^ 0x7465646279746573ULL};
    size_t at = 0;
    for (; at + 8 <= size; at += 8) {
        uint64_t word = little(from + at, 8);
        v[3] ^= word;
        mix(v, 2);
        v[0] ^= word;
    }
    uint64_t last = (uint64_t)size << 56 | little(from + at, size - at);
    v[3] ^= last;
    mix(v, 2);
    v[0] ^= last;
    v[2] ^= 0xff;
    mix(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The COOKIE option for an answer, as `cookies.Cookies.option` makes it; its size, 0 without a key or an address. */
static Py_ssize_t make_option(uint8_t out[OPTION], const uint8_t *key, uint32_t now, const uint8_t *client_cookie, const uint8_t *address, Py_ssize_t size) {
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    if (!key || (size != 4 && size != 16)) return 0;
    if (size == 16 && !memcmp(address, mapped, sizeof mapped)) address += sizeof mapped, size = 4;
    uint8_t hashed[CLIENT_COOKIE + 8 + 16];
    memcpy(hashed, client_cookie, CLIENT_COOKIE);
    const uint8_t head[8] = {1, 0, 0, 0, (uint8_t)(now >> 24), (uint8_t)(now >> 16), (uint8_t)(now >> 8), (uint8_t)now};
    memcpy(hashed + CLIENT_COOKIE, head, sizeof head);
    memcpy(hashed + CLIENT_COOKIE + sizeof head, address, (size_t)size);
    uint64_t hash = siphash(key, hashed, CLIENT_COOKIE + sizeof head + (size_t)size);
    const uint8_t option[4] = {0, 10, 0, CLIENT_COOKIE + SERVER_COOKIE};
    memcpy(out, option, sizeof option);
    memcpy(out + sizeof option, hashed, CLIENT_COOKIE + sizeof head);
    for (int at = 0; at < 8; at++) out[sizeof option + CLIENT_COOKIE + sizeof head + (size_t)at] = (uint8_t)(hash >> (8 * at));
    return OPTION;
}

/* ---------------------------------------------------------------- Hits */

enum { HITS_RAW, HITS_PREPARED, SHORTENED_ANSWERS, ANSWERS_BY_KIND, COUNTERS };
enum { BRANCH, VERSION, EPOCH, MORE, CONTENT, AT, BODIES, BODY_COUNTS, FIRST, RING, OFFSETS, SPAN, TAIL, TURNS, KIND, SHORTENED, BODY_OPTION, PARTS };

/* What is to be added to the counters when a call ends: `touched` are the places of `kinds` that are not zero. */
typedef struct {
    long raw, prepared, shortened, kinds[KINDS];
    size_t touched_size;
    Py_ssize_t touched[KINDS];
} Counted;

typedef struct {
    PyObject_HEAD
    PyObject *raw, *prepared, *epoch, *draw, *promote, *counters, *secret;
    PyObject *names[COUNTERS];
    int udp;
    Slot parts[PARTS];
    Counted counted;  /* here, since it is too large to be cleared for each call */
} Hits;

/* Also what a call left that failed. */
static Counted *begin_counting(Hits *self) {
    Counted *counted = &self->counted;
    while (counted->touched_size) counted->kinds[counted->touched[--counted->touched_size]] = 0;
    counted->raw = counted->prepared = counted->shortened = 0;
    return counted;
}

/* 1: an entry of the cache still holds; 0: it does not; -1: an exception. */
static int holds(Hits *self, PyObject *entry, PyObject *epoch) {
    int result = -1;
    PyObject *made = load(entry, &self->parts[EPOCH]), *more = NULL, *branch = NULL, *version = NULL, *current = NULL;
    if (!made || (result = same(made, epoch)) != 1) goto done;
    result = -1;
    if (!(branch = load(entry, &self->parts[BRANCH])) || !(version = load(entry, &self->parts[VERSION]))) goto done;
    if (!(current = load(branch, &self->parts[AT])) || (result = same(current, version)) != 1) goto done;
    result = -1;
    if (!(more = load(entry, &self->parts[MORE]))) goto done;
    if (!PyTuple_Check(more)) {
        PyErr_SetString(PyExc_TypeError, "an entry's stamps are no tuple");
        goto done;
    }
    result = 1;
    for (Py_ssize_t at = 0; result == 1 && at < PyTuple_GET_SIZE(more); at++) {
        PyObject *stamp = PyTuple_GET_ITEM(more, at);
        if (!PyTuple_Check(stamp) || PyTuple_GET_SIZE(stamp) != 2) {
            PyErr_SetString(PyExc_TypeError, "a stamp is no pair");
            result = -1;
            break;
        }
        PyObject *there = load(PyTuple_GET_ITEM(stamp, 0), &self->parts[AT]);
        result = there ? same(there, PyTuple_GET_ITEM(stamp, 1)) : -1;
        Py_XDECREF(there);
    }
done:
    Py_XDECREF(made);
    Py_XDECREF(more);
    Py_XDECREF(branch);
    Py_XDECREF(version);
    Py_XDECREF(current);
    return result;
}

/* The slice of the ring that is the answer's turn; -1 with an exception. */
static int choose(Hits *self, PyObject *body, Py_ssize_t turns, Py_ssize_t size, Py_ssize_t *from, Py_ssize_t *to) {
    int result = -1;
    PyObject *drawn = NULL, *offsets = load(body, &self->parts[OFFSETS]);
    Py_ssize_t span = load_number(body, &self->parts[SPAN]);
    if (!offsets || span < 0 || !(drawn = PyObject_CallNoArgs(self->draw))) goto done;
    double draw = PyFloat_AsDouble(drawn);
    if (draw == -1.0 && PyErr_Occurred()) goto done;
    Py_ssize_t start = draw >= 0.0 && draw < 1.0 ? (Py_ssize_t)(draw * (double)turns) : 0;
    if (!PyTuple_Check(offsets) || start + span >= PyTuple_GET_SIZE(offsets)) {
        PyErr_SetString(PyExc_ValueError, "a kept answer's ring is too short");
        goto done;
    }
    *from = PyLong_AsSsize_t(PyTuple_GET_ITEM(offsets, start));
    *to = PyLong_AsSsize_t(PyTuple_GET_ITEM(offsets, start + span));
    if (PyErr_Occurred()) goto done;
    if (*from < 0 || *to < *from || *to > size) {
        PyErr_SetString(PyExc_ValueError, "a kept answer's ring has offsets outside of it");
        goto done;
    }
    result = 0;
done:
    Py_XDECREF(drawn);
    Py_XDECREF(offsets);
    return result;
}

/* The packet made of a body; NULL with an exception. */
static PyObject *build(Hits *self, PyObject *body, const uint8_t *packet, Py_ssize_t end, const uint8_t *option, Py_ssize_t option_size, Counted *counted) {
    PyObject *answer = NULL, *ring = NULL, *tail = NULL;
    PyObject *counts = load_bytes(body, &self->parts[BODY_COUNTS]), *first = load_bytes(body, &self->parts[FIRST]);
    PyObject *shortened = load(body, &self->parts[SHORTENED]);
    Py_ssize_t turns = load_number(body, &self->parts[TURNS]), kind = load_number(body, &self->parts[KIND]);
    Py_ssize_t from = 0, to = 0, tail_size = 0;
    if (!counts || !first || !shortened || turns < 0 || kind < 0) goto done;
    if (PyBytes_GET_SIZE(counts) != COUNTS || kind >= KINDS) {
        PyErr_SetString(PyExc_ValueError, "a kept answer's header has another size, or it is of no kind");
        goto done;
    }
    if (turns > 1) {
        if (!(ring = load_bytes(body, &self->parts[RING])) || !(tail = load_bytes(body, &self->parts[TAIL]))) goto done;
        if (choose(self, body, turns, PyBytes_GET_SIZE(ring), &from, &to)) goto done;
        tail_size = PyBytes_GET_SIZE(tail);
    }
    Py_ssize_t question = end - HEADER, first_size = PyBytes_GET_SIZE(first);
    answer = PyBytes_FromStringAndSize(NULL, end + first_size + (to - from) + tail_size + option_size);
    if (!answer) goto done;
    uint8_t *out = (uint8_t *)PyBytes_AS_STRING(answer);
    memcpy(out, packet, 2);
    memcpy(out + 2, PyBytes_AS_STRING(counts), COUNTS);
    memcpy(out + HEADER, packet + HEADER, (size_t)question);
    out += end;
    memcpy(out, PyBytes_AS_STRING(first), (size_t)first_size);
    out += first_size;
    if (ring) {
        memcpy(out, PyBytes_AS_STRING(ring) + from, (size_t)(to - from));
        out += to - from;
        memcpy(out, PyBytes_AS_STRING(tail), (size_t)tail_size);
        out += tail_size;
    }
    if (option_size) memcpy(out, option, (size_t)option_size);
    if (!counted->kinds[kind]++) counted->touched[counted->touched_size++] = kind;
    counted->shortened += shortened == Py_True;
done:
    Py_XDECREF(counts);
    Py_XDECREF(first);
    Py_XDECREF(shortened);
    Py_XDECREF(ring);
    Py_XDECREF(tail);
    return answer;
}

/* Where the first question ends, by its first zero byte; 0 when it has no such end. */
static Py_ssize_t end_of_question(const uint8_t *packet, Py_ssize_t size) {
    if (size < HEADER + 5) return 0;
    const uint8_t *zero = memchr(packet + HEADER, 0, (size_t)(size - HEADER));
    Py_ssize_t end = zero ? zero - packet + 5 : 0;
    return end > size || end > HEADER + MAX_NAME + 4 ? 0 : end;
}

/* The raw level: a new reference, Py_None when there is nothing, NULL with an exception. */
static PyObject *find_raw(Hits *self, PyObject *key, const uint8_t *packet, Py_ssize_t size, PyObject *epoch, Counted *counted) {
    PyObject *entry = Py_XNewRef(PyDict_GetItemWithError(self->raw, key));
    if (!entry) return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    PyObject *answer = NULL, *body = NULL;
    int held = holds(self, entry, epoch);
    Py_ssize_t end = end_of_question(packet, size);
    if (held == 1 && end) {
        if ((body = load(entry, &self->parts[CONTENT]))) answer = build(self, body, packet, end, NULL, 0, counted);
        if (answer) counted->raw++;
    } else if (held >= 0) {
        answer = Py_NewRef(Py_None);
    }
    Py_XDECREF(body);
    Py_DECREF(entry);
    return answer;
}

typedef struct {
    int is_known, has_key;
    uint8_t key[KEY];  /* of cookies */
    uint32_t now;  /* seconds since 1970 */
} Secret;

/* Asks for the secret, where this was not done before. */
static int know(Hits *self, Secret *secret) {
    if (secret->is_known) return 0;
    int result = -1;
    PyObject *told = PyObject_CallNoArgs(self->secret);
    if (!told) return -1;
    if (!PyTuple_Check(told) || PyTuple_GET_SIZE(told) != 2 || !PyBytes_Check(PyTuple_GET_ITEM(told, 0))) {
        PyErr_SetString(PyExc_TypeError, "a secret and its time are a pair");
        goto done;
    }
    PyObject *key = PyTuple_GET_ITEM(told, 0);
    if (PyBytes_GET_SIZE(key) && PyBytes_GET_SIZE(key) != KEY) {
        PyErr_SetString(PyExc_ValueError, "a secret is 16 bytes, or none");
        goto done;
    }
    secret->has_key = PyBytes_GET_SIZE(key) == KEY;
    if (secret->has_key) memcpy(secret->key, PyBytes_AS_STRING(key), KEY);
    secret->now = (uint32_t)PyLong_AsUnsignedLongMask(PyTuple_GET_ITEM(told, 1));
    if (PyErr_Occurred()) goto done;
    secret->is_known = 1;
    result = 0;
done:
    Py_DECREF(told);
    return result;
}

/* The packet for a shape of query among the bodies of an answer; as find_raw. */
static PyObject *find_shape(Hits *self, PyObject *entry, PyObject *raw_key, const uint8_t *packet, Py_ssize_t size, Py_ssize_t end, int is_folded, PyObject *client, Secret *secret, Counted *counted) {
    static const uint8_t alone[2][6] = {{0, 12, 0, 10, 0, 8}, {0, 28, 0, 10, 0, 24}};
    Py_ssize_t rest = size - end, shape_size = rest;
    int cookie = 0;
    if (rest > OPT) {
        if (rest != COOKIE + CLIENT_COOKIE && rest != COOKIE + CLIENT_COOKIE + SERVER_COOKIE) return Py_NewRef(Py_None);
        if (memcmp(packet + end + OPT - 2, alone[rest != COOKIE + CLIENT_COOKIE], 6)) return Py_NewRef(Py_None);
        cookie = 1;
        shape_size = COOKIE;
    }
    uint8_t shape[COUNTS + COOKIE];
    memcpy(shape, packet + 2, COUNTS);
    memcpy(shape + COUNTS, packet + end, (size_t)shape_size);
    PyObject *answer = NULL, *bodies = NULL, *key = NULL, *body = NULL;
    PyObject *prepared = load(entry, &self->parts[CONTENT]);
    if (!prepared || !(bodies = load(prepared, &self->parts[BODIES]))) goto done;
    if (!PyTuple_Check(bodies) || PyTuple_GET_SIZE(bodies) != 2 || !PyDict_Check(PyTuple_GET_ITEM(bodies, self->udp))) {
        PyErr_SetString(PyExc_TypeError, "an answer's bodies are no pair of dicts");
        goto done;
    }
    if (!(key = PyBytes_FromStringAndSize((char *)shape, COUNTS + shape_size))) goto done;
    body = Py_XNewRef(PyDict_GetItemWithError(PyTuple_GET_ITEM(bodies, self->udp), key));
    if (!body) {
        if (!PyErr_Occurred()) answer = Py_NewRef(Py_None);
        goto done;
    }
    uint8_t option[OPTION];
    Py_ssize_t option_size = 0, wanted = load_number(body, &self->parts[BODY_OPTION]);
    if (wanted < 0) goto done;
    if (cookie && know(self, secret)) goto done;
    if (cookie) option_size = make_option(option, secret->has_key ? secret->key : NULL, secret->now, packet + end + COOKIE, (uint8_t *)PyBytes_AS_STRING(client), PyBytes_GET_SIZE(client));
    if (option_size != wanted) {
        answer = Py_NewRef(Py_None);
        goto done;
    }
    answer = build(self, body, packet, end, option, option_size, counted);
    if (answer) counted->prepared++;
    if (answer && is_folded && !cookie) {
        PyObject *done = PyObject_CallFunctionObjArgs(self->promote, raw_key, body, entry, NULL);
        if (!done) Py_CLEAR(answer);
        Py_XDECREF(done);
    }
done:
    Py_XDECREF(prepared);
    Py_XDECREF(bodies);
    Py_XDECREF(key);
    Py_XDECREF(body);
    return answer;
}

static PyObject *find_prepared(Hits *self, PyObject *raw_key, const uint8_t *packet, Py_ssize_t size, PyObject *epoch, PyObject *client, Secret *secret, Counted *counted) {
    Py_ssize_t end = end_of_question(packet, size);
    if (!end) return Py_NewRef(Py_None);
    PyObject *key = PyBytes_FromStringAndSize((const char *)packet + HEADER, end - HEADER);
    if (!key) return NULL;
    uint8_t *name = (uint8_t *)PyBytes_AS_STRING(key);
    int is_folded = 1;
    for (Py_ssize_t at = 0; at < end - HEADER - 4; at++)
        if (name[at] >= 'A' && name[at] <= 'Z') name[at] |= 0x20, is_folded = 0;
    PyObject *answer = NULL, *entry = Py_XNewRef(PyDict_GetItemWithError(self->prepared, key));
    if (entry) {
        int held = holds(self, entry, epoch);
        if (held == 1) answer = find_shape(self, entry, raw_key, packet, size, end, is_folded, client, secret, counted);
        else if (held == 0) answer = Py_NewRef(Py_None);
    } else if (!PyErr_Occurred()) {
        answer = Py_NewRef(Py_None);
    }
    Py_XDECREF(entry);
    Py_DECREF(key);
    return answer;
}

static PyObject *find(Hits *self, PyObject *packet, PyObject *epoch, PyObject *client, Secret *secret, Counted *counted) {
    if (!PyBytes_Check(packet) || !PyBytes_Check(client)) {
        PyErr_SetString(PyExc_TypeError, "a packet and its client are bytes");
        return NULL;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(packet);
    if (size < HEADER) return Py_NewRef(Py_None);
    const uint8_t *bytes = (uint8_t *)PyBytes_AS_STRING(packet);
    PyObject *key = PyBytes_FromStringAndSize((const char *)bytes + 2, size - 2);
    if (!key) return NULL;
    PyObject *answer = find_raw(self, key, bytes, size, epoch, counted);
    if (answer == Py_None) {
        Py_DECREF(answer);
        answer = find_prepared(self, key, bytes, size, epoch, client, secret, counted);
    }
    Py_DECREF(key);
    return answer;
}

static int add(Hits *self, int name, long number) {
    if (!number) return 0;
    PyObject *old = PyObject_GetAttr(self->counters, self->names[name]), *more = PyLong_FromLong(number);
    PyObject *sum = old && more ? PyNumber_Add(old, more) : NULL;
    int result = sum ? PyObject_SetAttr(self->counters, self->names[name], sum) : -1;
    Py_XDECREF(old);
    Py_XDECREF(more);
    Py_XDECREF(sum);
    return result;
}

static int count(Hits *self, const Counted *counted) {
    if (add(self, HITS_RAW, counted->raw) || add(self, HITS_PREPARED, counted->prepared) || add(self, SHORTENED_ANSWERS, counted->shortened)) return -1;
    PyObject *answers = PyObject_GetAttr(self->counters, self->names[ANSWERS_BY_KIND]);
    int result = answers && PyList_Check(answers) ? 0 : -1;
    for (size_t number = 0; !result && number < counted->touched_size; number++) {
        Py_ssize_t at = counted->touched[number];
        if (at >= PyList_GET_SIZE(answers)) continue;
        PyObject *more = PyLong_FromLong(counted->kinds[at]);
        PyObject *sum = more ? PyNumber_Add(PyList_GET_ITEM(answers, at), more) : NULL;
        Py_XDECREF(more);
        result = sum ? PyList_SetItem(answers, at, sum) : -1;
    }
    Py_XDECREF(answers);
    return result;
}

static PyObject *hits_answer(PyObject *object, PyObject *const *arguments, Py_ssize_t number) {
    Hits *self = (Hits *)object;
    Secret secret = {0};
    if (number != 2) return PyErr_Format(PyExc_TypeError, "answer takes 2 arguments");
    Counted *counted = begin_counting(self);
    PyObject *epoch = load(self->epoch, &self->parts[AT]);
    if (!epoch) return NULL;
    PyObject *answer = find(self, arguments[0], epoch, arguments[1], &secret, counted);
    Py_DECREF(epoch);
    if (answer && answer != Py_None && count(self, counted)) Py_CLEAR(answer);
    return answer;
}

static PyObject *hits_answer_all(PyObject *object, PyObject *const *arguments, Py_ssize_t number) {
    Hits *self = (Hits *)object;
    Secret secret = {0};
    if (number != 2) return PyErr_Format(PyExc_TypeError, "answer_all takes 2 arguments");
    if (!PyList_Check(arguments[0]) || !PyList_Check(arguments[1])) return PyErr_Format(PyExc_TypeError, "packets and clients are lists");
    Counted *counted = begin_counting(self);
    PyObject *epoch = load(self->epoch, &self->parts[AT]), *answers = PyList_New(0);
    if (!epoch || !answers) goto failed;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(arguments[0]) && at < PyList_GET_SIZE(arguments[1]); at++) {
        PyObject *packet = Py_NewRef(PyList_GET_ITEM(arguments[0], at)), *client = Py_NewRef(PyList_GET_ITEM(arguments[1], at));
        PyObject *answer = find(self, packet, epoch, client, &secret, counted);
        Py_DECREF(packet);
        Py_DECREF(client);
        int failed = !answer || PyList_Append(answers, answer);
        Py_XDECREF(answer);
        if (failed) goto failed;
    }
    if (count(self, counted)) goto failed;
    Py_DECREF(epoch);
    return answers;
failed:
    Py_XDECREF(epoch);
    Py_XDECREF(answers);
    return NULL;
}

static int hits_clear(PyObject *object) {
    Hits *self = (Hits *)object;
    Py_CLEAR(self->raw);
    Py_CLEAR(self->prepared);
    Py_CLEAR(self->epoch);
    Py_CLEAR(self->draw);
    Py_CLEAR(self->promote);
    Py_CLEAR(self->counters);
    Py_CLEAR(self->secret);
    return 0;
}

static int hits_traverse(PyObject *object, visitproc visit, void *arg) {
    Hits *self = (Hits *)object;
    Py_VISIT(self->raw);
    Py_VISIT(self->prepared);
    Py_VISIT(self->epoch);
    Py_VISIT(self->draw);
    Py_VISIT(self->promote);
    Py_VISIT(self->counters);
    Py_VISIT(self->secret);
    return 0;
}

static void hits_dealloc(PyObject *object) {
    Hits *self = (Hits *)object;
    PyObject_GC_UnTrack(object);
    hits_clear(object);
    for (int at = 0; at < PARTS; at++) forget(&self->parts[at]);
    for (int at = 0; at < COUNTERS; at++) Py_CLEAR(self->names[at]);
    Py_TYPE(object)->tp_free(object);
}

static PyObject *hits_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {"raw", "prepared", "epoch", "draw", "promote", "counters", "secret", "udp", "entry", "answer", "body", NULL};
    static const char *parts[PARTS] = {"branch", "version", "epoch", "more", "content", "version", "bodies", "counts", "first", "ring", "offsets", "span", "tail", "turns", "kind", "shortened", "option"};
    PyObject *raw, *prepared, *epoch, *draw, *promote, *counters, *secret, *entry, *answer, *body;
    int udp;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!O!OOOOOpO!O!O!", names, &PyDict_Type, &raw, &PyDict_Type, &prepared, &epoch, &draw, &promote, &counters, &secret, &udp, &PyType_Type, &entry, &PyType_Type, &answer, &PyType_Type, &body)) return NULL;
    Hits *self = (Hits *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->raw = Py_NewRef(raw);
    self->prepared = Py_NewRef(prepared);
    self->epoch = Py_NewRef(epoch);
    self->draw = Py_NewRef(draw);
    self->promote = Py_NewRef(promote);
    self->counters = Py_NewRef(counters);
    self->secret = Py_NewRef(secret);
    self->udp = udp;
    const char *counted[COUNTERS] = {"hits_raw", "hits_prepared", udp ? "truncated" : "cut", "answers"};
    for (int at = 0; at < COUNTERS; at++) {
        if (!(self->names[at] = PyUnicode_InternFromString(counted[at]))) {
            Py_DECREF(self);
            return NULL;
        }
    }
    for (int at = 0; at < PARTS; at++) {
        PyObject *owner = at < AT ? entry : at == AT ? (PyObject *)Py_TYPE(epoch) : at == BODIES ? answer : body;
        if (learn(&self->parts[at], owner, parts[at])) {
            Py_DECREF(self);
            return NULL;
        }
    }
    return (PyObject *)self;
}

static PyMethodDef hits_methods[] = {
    {"answer", (PyCFunction)(void (*)(void))hits_answer, METH_FASTCALL, "(packet, client) -> the answer, or None"},
    {"answer_all", (PyCFunction)(void (*)(void))hits_answer_all, METH_FASTCALL, "(packets, clients) -> a list of those"},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject HitsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "discovery.dns._fast.Hits",
    .tp_doc = "Both levels of one transport's cache.",
    .tp_basicsize = sizeof(Hits),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = hits_new,
    .tp_dealloc = hits_dealloc,
    .tp_traverse = hits_traverse,
    .tp_clear = hits_clear,
    .tp_methods = hits_methods,
};

/* ---------------------------------------------------------------- Datagrams */

typedef struct {
    PyObject_HEAD
    uint8_t *memory;  /* SLOTS questions, then SLOTS answers, STRIDE bytes apart */
    struct sockaddr_in6 names[SLOTS];
    struct iovec in[SLOTS], out[SLOTS];
    struct mmsghdr questions[SLOTS], answers[SLOTS];
    int received;
} Datagrams;

static PyObject *datagrams_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "", names)) return NULL;
    Datagrams *self = (Datagrams *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->memory = PyMem_Calloc(2 * SLOTS, STRIDE);
    if (!self->memory) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    for (int at = 0; at < SLOTS; at++) {
        self->in[at] = (struct iovec){self->memory + (size_t)at * STRIDE, MAX_DATAGRAM};
        self->out[at] = (struct iovec){self->memory + (size_t)(SLOTS + at) * STRIDE, 0};
        self->questions[at].msg_hdr = (struct msghdr){.msg_name = &self->names[at], .msg_iov = &self->in[at], .msg_iovlen = 1};
        self->answers[at].msg_hdr = (struct msghdr){.msg_name = &self->names[at], .msg_iov = &self->out[at], .msg_iovlen = 1};
    }
    return (PyObject *)self;
}

static void datagrams_dealloc(PyObject *object) {
    PyMem_Free(((Datagrams *)object)->memory);
    Py_TYPE(object)->tp_free(object);
}

static PyObject *address_of(const struct sockaddr_in6 *name) {
    if (name->sin6_family == AF_INET6) return PyBytes_FromStringAndSize((const char *)&name->sin6_addr, 16);
    return PyBytes_FromStringAndSize((const char *)&((const struct sockaddr_in *)name)->sin_addr, 4);
}

static PyObject *datagrams_receive(PyObject *object, PyObject *argument) {
    Datagrams *self = (Datagrams *)object;
    int fd = (int)PyLong_AsLong(argument), count;
    if (PyErr_Occurred()) return NULL;
    for (int at = 0; at < SLOTS; at++) self->questions[at].msg_hdr.msg_namelen = sizeof self->names[at];
    Py_BEGIN_ALLOW_THREADS
    count = recvmmsg(fd, self->questions, SLOTS, MSG_DONTWAIT, NULL);
    Py_END_ALLOW_THREADS
    self->received = count < 0 ? 0 : count;  /* nothing more, or an ICMP error left on the socket by an earlier answer */
    PyObject *packets = PyList_New(self->received), *clients = PyList_New(self->received), *both = NULL;
    if (!packets || !clients) goto done;
    for (int at = 0; at < self->received; at++) {
        unsigned size = self->questions[at].msg_len;
        PyObject *packet = PyBytes_FromStringAndSize(self->in[at].iov_base, size < MAX_DATAGRAM ? (Py_ssize_t)size : MAX_DATAGRAM);
        PyObject *client = address_of(&self->names[at]);
        if (packet) PyList_SET_ITEM(packets, at, packet);
        if (client) PyList_SET_ITEM(clients, at, client);
        if (!packet || !client) goto done;
    }
    both = PyTuple_Pack(2, packets, clients);
done:
    Py_XDECREF(packets);
    Py_XDECREF(clients);
    return both;
}

static PyObject *datagrams_name(PyObject *object, PyObject *argument) {
    Datagrams *self = (Datagrams *)object;
    long at = PyLong_AsLong(argument);
    if (PyErr_Occurred()) return NULL;
    if (at < 0 || at >= self->received) return PyErr_Format(PyExc_IndexError, "no such datagram");
    return PyBytes_FromStringAndSize((char *)&self->names[at], sizeof self->names[at]);
}

/* Sends the answers from `first` up to `end`; how many the kernel did not take. */
static long flush(Datagrams *self, int fd, Py_ssize_t first, Py_ssize_t end) {
    long lost = 0;
    if (first >= end) return 0;
    Py_BEGIN_ALLOW_THREADS
    while (first < end) {
        int sent = sendmmsg(fd, self->answers + first, (unsigned)(end - first), MSG_DONTWAIT);
        if (sent <= 0) lost++, sent = 1;  /* a full buffer, an unreachable client, port 0: the first one's loss alone */
        first += sent;
    }
    Py_END_ALLOW_THREADS
    return lost;
}

static PyObject *datagrams_send(PyObject *object, PyObject *const *arguments, Py_ssize_t number) {
    Datagrams *self = (Datagrams *)object;
    if (number != 2 || !PyList_Check(arguments[1])) return PyErr_Format(PyExc_TypeError, "send takes a descriptor and a list");
    int fd = (int)PyLong_AsLong(arguments[0]);
    if (PyErr_Occurred()) return NULL;
    PyObject *answers = arguments[1];
    Py_ssize_t end = PyList_GET_SIZE(answers);
    uint8_t silent[SLOTS] = {0};  /* the list is not looked at while others may run */
    if (end > self->received) return PyErr_Format(PyExc_ValueError, "more answers than datagrams");
    for (Py_ssize_t at = 0; at < end; at++) {
        PyObject *answer = PyList_GET_ITEM(answers, at);
        if (answer == Py_None) {
            silent[at] = 1;
            continue;
        }
        if (!PyBytes_Check(answer) || PyBytes_GET_SIZE(answer) > MAX_DATAGRAM) return PyErr_Format(PyExc_ValueError, "an answer is no bytes, or too long for UDP");
        memcpy(self->out[at].iov_base, PyBytes_AS_STRING(answer), (size_t)PyBytes_GET_SIZE(answer));
        self->out[at].iov_len = (size_t)PyBytes_GET_SIZE(answer);
        self->answers[at].msg_hdr.msg_namelen = self->questions[at].msg_hdr.msg_namelen;
    }
    long lost = 0;
    Py_ssize_t first = 0;
    for (Py_ssize_t at = 0; at < end; at++) {
        if (!silent[at]) continue;
        lost += flush(self, fd, first, at);
        first = at + 1;
    }
    lost += flush(self, fd, first, end);
    return PyLong_FromLong(lost);
}

static PyMethodDef datagrams_methods[] = {
    {"receive", datagrams_receive, METH_O, "(descriptor) -> the datagrams that have come, and their senders' addresses"},
    {"name", datagrams_name, METH_O, "(number) -> the sender of a datagram, as a sockaddr"},
    {"send", (PyCFunction)(void (*)(void))datagrams_send, METH_FASTCALL, "(descriptor, answers) -> how many the kernel did not take"},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject DatagramsType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "discovery.dns._fast.Datagrams",
    .tp_doc = "A batch of datagrams on one socket.",
    .tp_basicsize = sizeof(Datagrams),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = datagrams_new,
    .tp_dealloc = datagrams_dealloc,
    .tp_methods = datagrams_methods,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_fast",
    .m_doc = "The hit path of DNS in C.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__fast(void) {
    PyObject *made = PyModule_Create(&module);
    if (made && (PyModule_AddType(made, &HitsType) || PyModule_AddType(made, &DatagramsType))) Py_CLEAR(made);
    return made;
}
