DROP TABLE probe, idempotency_keys, mutes, fanouts, inbox, alarms, trade_messages, room_lines, trade_rooms, likes, bids,
    goods_images, goods, users, writer_marks, id_counters;
