import { expect, test } from 'vitest'
import { isOnce } from './once.ts'

const SVID = '/spire.api.server.svid.v1.SVID'
const AGENT = '/spire.api.server.agent.v1.Agent'
const ENTRY = '/spire.api.server.entry.v1.Entry'
const BUNDLE = '/spire.api.server.bundle.v1.Bundle'

test.each([
  `${SVID}/NewJWTSVID`,
  `${SVID}/MintJWTSVID`,
  `${SVID}/MintX509SVID`,
  `${SVID}/NewDownstreamX509CA`,
  `${AGENT}/RenewAgent`,
  `${AGENT}/BanAgent`,
  `${AGENT}/CreateJoinToken`,
  `${ENTRY}/BatchCreateEntry`,
  `${BUNDLE}/PublishJWTAuthority`,
  `${BUNDLE}/PublishWITAuthority`,
])('a copy of %s is refused', (path) => expect(isOnce(path)).toBe(true))

test.each([
  `${SVID}/BatchNewX509SVID`,
  `${SVID}/BatchNewWITSVID`,
  `${ENTRY}/ListEntries`,
  `${ENTRY}/SyncAuthorizedEntries`,
  `${BUNDLE}/GetBundle`,
  `${AGENT}/PostStatus`,
  // Anybody may come with it unsigned: a copy is nothing new, and a note of each would fill the database.
  `${AGENT}/AttestAgent`,
])('a copy of %s does no harm', (path) => expect(isOnce(path)).toBe(false))
