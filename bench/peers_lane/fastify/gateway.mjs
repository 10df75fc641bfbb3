// A gateway on Fastify 5 and undici, written as a Node team would that cares: compiled schema validation, one pooled
// client, back-pressure and cancellation through streams, Prometheus metrics. Environment: PORT, UPSTREAM, KEY,
// UPSTREAM_KEY.
import { pipeline } from 'node:stream/promises'
import Fastify from 'fastify'
import prometheus from 'prom-client'
import { Pool } from 'undici'

const { PORT, UPSTREAM, KEY, UPSTREAM_KEY } = process.env
const CHAT = '/v1/chat/completions'
const UPSTREAM_HEADERS = { authorization: `Bearer ${UPSTREAM_KEY}`, 'content-type': 'application/json' }

const tenants = new Map([[`Bearer ${KEY}`, { tenant: 'bench' }]])
const upstream = new Pool(UPSTREAM, {
  connections: 20000,
  pipelining: 1,
  keepAliveTimeout: 60_000,
  headersTimeout: 600_000,
  bodyTimeout: 600_000,
})

const requests = new prometheus.Counter({ name: 'http_requests_total', help: 'Answers', labelNames: ['path', 'status'] })
const seconds = new prometheus.Histogram({ name: 'http_request_duration_seconds', help: 'Duration', labelNames: ['path'] })
const active = new prometheus.Gauge({ name: 'active_streams', help: 'Streams open now' })
const cancelled = new prometheus.Counter({ name: 'streams_cancelled_total', help: 'Streams whose caller left' })

const chatSchema = {
  type: 'object',
  required: ['model', 'messages'],
  properties: {
    model: { type: 'string', minLength: 1, maxLength: 200 },
    messages: {
      type: 'array',
      minItems: 1,
      maxItems: 2000,
      items: {
        type: 'object',
        required: ['role'],
        properties: {
          role: { enum: ['system', 'user', 'assistant', 'tool', 'developer'] },
          content: { anyOf: [{ type: 'string' }, { type: 'array' }, { type: 'null' }] },
          name: { type: 'string' },
          tool_calls: { type: 'array' },
          tool_call_id: { type: 'string' },
        },
      },
    },
    temperature: { type: 'number', minimum: 0, maximum: 2 },
    top_p: { type: 'number', minimum: 0, maximum: 1 },
    max_tokens: { type: 'integer', minimum: 1 },
    stream: { type: 'boolean' },
  },
}

const app = Fastify({ logger: false, bodyLimit: 16 * 1024 * 1024 })

function problem(reply, status, message, type) {
  return reply.code(status).send({ error: { message, type, param: null, code: null } })
}

app.setErrorHandler((error, _request, reply) =>
  problem(reply, error.statusCode ?? 502, error.message, error.validation ? 'invalid_request_error' : 'upstream_error'),
)

app.addHook('onRequest', async (request, reply) => {
  if (request.method === 'GET') return
  const tenant = tenants.get(request.headers.authorization)
  if (tenant === undefined) return problem(reply, 401, 'invalid API key', 'authentication_error')
  request.tenant = tenant
})

function observe(status, started) {
  requests.inc({ path: CHAT, status })
  seconds.observe({ path: CHAT }, (performance.now() - started) / 1000)
}

async function answerWhole(body, reply, started) {
  const answer = await upstream.request({ method: 'POST', path: CHAT, headers: UPSTREAM_HEADERS, body })
  const bytes = Buffer.from(await answer.body.arrayBuffer())
  observe(answer.statusCode, started)
  return reply.code(answer.statusCode).type('application/json').send(bytes)
}

async function relayStream(body, reply, started) {
  reply.hijack()
  const caller = reply.raw
  const leave = new AbortController()
  caller.on('close', () => {
    if (!caller.writableFinished) leave.abort()
  })
  let status = 502
  active.inc()
  try {
    const answer = await upstream.request({ method: 'POST', path: CHAT, headers: UPSTREAM_HEADERS, body, signal: leave.signal })
    status = answer.statusCode
    caller.writeHead(status, { 'content-type': answer.headers['content-type'], 'cache-control': 'no-cache', 'x-accel-buffering': 'no' })
    caller.flushHeaders()
    await pipeline(answer.body, caller)
  } catch {
    if (leave.signal.aborted) cancelled.inc()
    else if (caller.headersSent) caller.destroy()
    else caller.writeHead(502, { 'content-type': 'application/json' }).end('{"error":{"message":"upstream error"}}')
  } finally {
    active.dec()
    observe(status, started)
  }
}

app.post(CHAT, { schema: { body: chatSchema } }, (request, reply) => {
  const started = performance.now()
  const body = JSON.stringify(request.body)
  return request.body.stream ? relayStream(body, reply, started) : answerWhole(body, reply, started)
})
app.get('/metrics', async (_request, reply) => reply.type(prometheus.register.contentType).send(await prometheus.register.metrics()))
app.get('/health', async () => ({ status: 'ok' }))

await app.listen({ port: Number(PORT), host: '127.0.0.1', backlog: 8192 })
