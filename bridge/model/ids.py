"""Names for identifiers, so that a role is never passed where a room is meant."""

from typing import NewType

ChannelId = NewType("ChannelId", str)  # the channel's name in nightbell.yaml, e.g. "clinic-sms"
RoleId = NewType("RoleId", str)  # an on-call duty, e.g. "cardiology"
PersonId = NewType("PersonId", str)  # a person in roles.yaml, e.g. "okafor"
RuleId = NewType("RuleId", str)
LadderId = NewType("LadderId", str)
RetentionClassId = NewType("RetentionClassId", str)
TemplateId = NewType("TemplateId", str)

IntakeId = NewType("IntakeId", str)  # one accepted intake event
PageId = NewType("PageId", str)  # one page
OutboxId = NewType("OutboxId", int)  # one message decided and durable; ascending in the order of decision

UserId = NewType("UserId", str)  # @localpart:domain
DeviceId = NewType("DeviceId", str)
RoomId = NewType("RoomId", str)
EventId = NewType("EventId", str)  # a Matrix event, $...
