import { createHash, type Hash } from 'node:crypto'
import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { errorMessage } from '../../../core/error.ts'
import { fileState } from './file-state.ts'

/** Hash this file, or without a path: nobody waits for it any more. */
export interface HashingRequest {
  readonly id: number
  readonly path?: string
}

export interface HashingAnswer {
  readonly id: number
  /** Hex SHA-256, and the state of the file once it was read. */
  readonly result?: { readonly digest: string; readonly state: string }
  readonly error?: string
}

const CHUNK_BYTES = 1024 * 1024

interface Job {
  readonly file: number
  readonly hash: Hash
}

const jobs = new Map<number, Job>()
const chunk = Buffer.alloc(CHUNK_BYTES)

parentPort!.on('message', ({ id, path }: HashingRequest) => {
  if (path === undefined) {
    end(id)
    return
  }
  try {
    jobs.set(id, { file: openSync(path, 'r'), hash: createHash('sha256') })
    if (jobs.size === 1) setImmediate(turn)
  } catch (error) {
    answer({ id, error: errorMessage(error) })
  }
})

/** A piece of each file in turn: a large one keeps nobody else waiting. */
function turn(): void {
  for (const [id, { file, hash }] of jobs) {
    try {
      const length = readSync(file, chunk, 0, CHUNK_BYTES, null)
      if (length > 0) {
        hash.update(chunk.subarray(0, length))
        continue
      }
      answer({ id, result: { digest: hash.digest('hex'), state: fileState(fstatSync(file, { bigint: true })) } })
    } catch (error) {
      answer({ id, error: errorMessage(error) })
    }
    end(id)
  }
  if (jobs.size > 0) setImmediate(turn)
}

function end(id: number): void {
  const job = jobs.get(id)
  if (!job) return
  jobs.delete(id)
  closeSync(job.file)
}

function answer(message: HashingAnswer): void {
  parentPort!.postMessage(message)
}
